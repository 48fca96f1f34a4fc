"""Write what a run found into the pages: tables between markers, and the chart.

`python -m benchmarks.report` renders benchmarks/results/latest.json again, so that tables and
chart never differ from the document; `--check` only says whether they do.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import tables
from benchmarks.chart import Bar, Panel, render
from benchmarks.paths import CHART, LATEST, PAGES
from benchmarks.results import Results, load
from benchmarks.tables import table

BEGIN = "<!-- bench:begin -->"
END = "<!-- bench:end -->"


def machine_line(results: Results) -> str:
    """Return where and when the figures were taken, on which commit."""
    machine = results.machine
    arriero = results.row("arriero")
    facts = arriero.facts if arriero is not None else {}
    commit = str(facts.get("commit", "unknown"))[:12]
    dirty = " (working tree)" if facts.get("source") == "working tree" else ""
    rounds = results.settings.get("rounds")
    return (
        f"{machine['cpu']}, one core for the gateway and one for everything else, "
        f"{machine['system']}, kernel {machine['kernel']}; {machine['date']}, "
        f"arriero at {commit}{dirty}; median of {rounds} interleaved rounds."
    )


def overview(results: Results) -> str:
    """Return the README's chart and table."""
    image = "![Processor time per request and per chunk, by gateway](docs/img/benchmark.svg)"
    lines = table(results, tables.OVERVIEW, tables.measured(results))
    remark = "\\* docs/benchmarks.md has a remark on it."
    return "\n".join([image, "", *lines, "", machine_line(results), remark])


def full(results: Results) -> str:
    """Return all tables."""
    rows = tables.measured(results)
    sections: list[tuple[str, Sequence[str]]] = [
        ("Targets", ["```text", *tables.target_lines(results), "```"]),
        ("Whole answers", table(results, tables.REQUESTS, rows)),
        ("Streams", table(results, tables.STREAMS, rows)),
        ("Start and memory", table(results, tables.MEMORY, rows)),
        ("Who ran", table(results, tables.ENTRANTS, results.rows)),
    ]
    remarks = tables.remarks(results)
    if remarks:
        sections.append(("Remarks (the stars)", remarks))
    parts = [machine_line(results)]
    for title, lines in sections:
        parts += ["", f"### {title}", "", *lines]
    return "\n".join(parts)


def chart(results: Results) -> str:
    """Return the SVG of processor time per request and per chunk."""
    rows = tables.measured(results)
    panels = [
        _panel(results, "Processor time per chat request (log scale)", "cpu_us_per_request"),
        _panel(results, "Processor time per streamed chunk (log scale)", "cpu_us_per_chunk"),
    ]
    caption = f"One core, {len(rows)} gateways in one run; shorter is better."
    return render(panels, caption)


def _panel(results: Results, title: str, key: str) -> Panel:
    bars = []
    for row in tables.measured(results):
        cell = row.cells.get(key)
        if cell is None or cell.value <= 0:
            continue
        overloaded = any("carried" in mark for mark in cell.marks)
        note = "overloaded" if overloaded else ""
        bars.append(Bar(row.title, cell.value, note, ours=row.family == "ours"))
    bars.sort(key=lambda bar: bar.value)
    return Panel(title, "µs", bars)


def replaced(page: str, block: str) -> str | None:
    """Return the page with a new block between its markers; None when it has no markers."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        return None
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


def rendering_of(page: Path) -> Callable[[Results], str]:
    """Return what belongs into a page: the overview into the README, all tables elsewhere."""
    return overview if page.name == "README.md" else full


def outdated(results: Results, pages: Sequence[Path] = PAGES) -> list[Path]:
    """Return the pages whose tables differ from the results."""
    found = []
    for page in pages:
        text = page.read_text() if page.exists() else ""
        wanted = replaced(text, rendering_of(page)(results))
        if wanted is not None and wanted != text:
            found.append(page)
    return found


def write(results: Results) -> list[Path]:
    """Write the chart and every page that has markers; return what was written."""
    CHART.parent.mkdir(parents=True, exist_ok=True)
    CHART.write_text(chart(results))
    written = [CHART]
    for page in outdated(results):
        text = replaced(page.read_text(), rendering_of(page)(results))
        assert text is not None, "outdated() returns pages that have markers"
        page.write_text(text)
        written.append(page)
    return written


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=LATEST)
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 if outdated")
    options = parser.parse_args()
    results = load(options.results)
    if options.check:
        stale = outdated(results)
        for page in stale:
            print(f"outdated: {page}", file=sys.stderr)
        return 1 if stale else 0
    print(full(results))
    for path in write(results):
        print(f"wrote {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
