"""Tables, JSON and charts of what the simulator found."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.chart import Bar, Panel, render
from benchmarks.fleet.figures import SLO_S, Figures
from benchmarks.fleet.lines import Line, Plot, render_plots
from benchmarks.fleet.policies import OURS, TITLES
from benchmarks.fleet.simulate import Results
from benchmarks.paths import HERE, ROOT

SCHEMA: Final = 2
JSON: Final = HERE / "results" / "fleet.json"
PAGE: Final = ROOT / "docs" / "fleet-simulator.md"
BARS: Final = ROOT / "docs" / "img" / "fleet-traces.svg"
LINES: Final = ROOT / "docs" / "img" / "fleet-load.svg"
BEGIN: Final = "<!-- fleet:begin -->"
END: Final = "<!-- fleet:end -->"

THIRD: Final = 1 / 3
SLACK: Final = 1.05
MULTI_TURN: Final = ("chat", "openwebui", "agents")
RIVALS: Final = ("litellm-least-busy", "round-robin")


def save(results: Results, seeds: Sequence[int], path: Path) -> None:
    """Write the document; its numbers are rounded to what means anything."""
    document = {
        "schema": SCHEMA,
        "seeds": list(seeds),
        "slo_s": SLO_S,
        "traces": _plain(results.traces),
        "sweeps": _plain(results.sweeps),
        "variants": _plain(results.variants),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def load(path: Path) -> Results:
    """Read a document that `save` wrote."""
    document = json.loads(path.read_text())
    if document.get("schema") != SCHEMA:
        raise ValueError(f"{path}: schema {document.get('schema')!r}, this program reads {SCHEMA}")
    return Results(
        {name: _figures(found) for name, found in document["traces"].items()},
        {
            name: {at: _figures(found) for at, found in swept.items()}
            for name, swept in document["sweeps"].items()
        },
        {name: _figures(found) for name, found in document["variants"].items()},
    )


def _figures(found: Mapping[str, Any]) -> dict[str, Figures]:
    return {policy: Figures(**values) for policy, values in found.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Figures):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


# -- tables


def trace_table(found: Mapping[str, Figures]) -> list[str]:
    """Return one trace's policies with all figures."""
    gaps = any(one.gap_tokens for one in found.values())
    lines = [
        "| policy | TTFT p50 | p95 | p99 | good | refused | failed | cached | busy | loads |"
        + (" gap |" if gaps else ""),
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|" + ("--:|" if gaps else ""),
    ]
    for policy, one in found.items():
        title = f"**{TITLES[policy]}**" if policy == OURS else TITLES[policy]
        lines.append(
            f"| {title} | {_time(one.ttft_p50_s)} | {_time(one.ttft_p95_s)} "
            f"| {_time(one.ttft_p99_s)} | {one.good:.1%} | {one.refused:.1%} | {one.failed:.1%} "
            f"| {one.hit_rate:.0%} | {one.busy:.0%} | {one.loads} |"
            + (f" {one.gap_tokens:,.0f} |" if gaps else "")
        )
    return lines


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"


def sweep_table(found: Mapping[str, Mapping[str, Figures]]) -> list[str]:
    """Return p95 by load, with what was answered in time."""
    policies = list(next(iter(found.values())))
    lines = [
        "| load | " + " | ".join(TITLES[policy] for policy in policies) + " |",
        "|--:|" + "--:|" * len(policies),
    ]
    for at, each in found.items():
        ones = [each[policy] for policy in policies]
        cells = [f"{_time(one.ttft_p95_s)}, {one.good:.0%}" for one in ones]
        lines.append(f"| {float(at):.0%} | " + " | ".join(cells) + " |")
    return lines


def variant_table(found: Mapping[str, Mapping[str, Figures]]) -> list[str]:
    """Return p95 under other assumptions, and our part of the others'."""
    policies = list(next(iter(found.values())))
    rivals = [policy for policy in policies if policy != OURS]
    titles = [*(TITLES[policy] for policy in policies), *(f"of {TITLES[one]}" for one in rivals)]
    lines = ["| chat | " + " | ".join(titles) + " |", "|---|" + "--:|" * len(titles)]
    for name, each in found.items():
        p95_s = {policy: one.ttft_p95_s for policy, one in each.items()}
        cells = [
            *map(_time, p95_s.values()),
            *(f"{p95_s[OURS] / p95_s[one]:.2f}" for one in rivals),
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def target_lines(results: Results) -> list[str]:
    """Say of each target whether it was reached."""
    lines = []
    for name in MULTI_TURN:
        found = results.traces.get(name, {})
        for rival in RIVALS:
            if OURS in found and rival in found:
                ratio = found[OURS].ttft_p95_s / found[rival].ttft_p95_s
                whose = f"{TITLES[rival]}'s (at most 0.33)"
                lines.append(f"{_verdict(ratio, THIRD)}  {name}: p95 is {ratio:.2f} of {whose}")
    for name, found in results.traces.items():
        if OURS not in found or len(found) == 1:
            continue
        rivals = {policy: one.ttft_p95_s for policy, one in found.items() if policy != OURS}
        best = min(rivals, key=rivals.__getitem__)
        ratio = found[OURS].ttft_p95_s / rivals[best]
        whose = f"the best other's, {TITLES[best]} (at most 1.05)"
        lines.append(f"{_verdict(ratio, SLACK)}  {name}: p95 is {ratio:.2f} of {whose}")
    return lines


def _verdict(ratio: float, most: float) -> str:
    return "reached" if ratio <= most else "MISSED "


def full(results: Results) -> str:
    """Return everything for the page."""
    parts = ["```text", *target_lines(results), "```"]
    for name, found in results.traces.items():
        parts += ["", f"### {name}", "", *trace_table(found)]
    for name, swept in results.sweeps.items():
        parts += ["", f"### {name}, by load: TTFT p95 and what was good", "", *sweep_table(swept)]
    if results.variants:
        title = "### chat under other assumptions: TTFT p95"
        parts += ["", title, "", *variant_table(results.variants)]
    return "\n".join(parts)


# -- charts


def bars(results: Results) -> str:
    """Return the p95 of every trace and policy as an SVG."""
    panels = []
    for name, found in results.traces.items():
        ordered = sorted(found, key=lambda policy: found[policy].ttft_p95_s)
        shown = [
            Bar(TITLES[policy], found[policy].ttft_p95_s, ours=policy == OURS) for policy in ordered
        ]
        panels.append(Panel(f"{name}: TTFT p95 (log scale)", "s", shown))
    return render(panels, "Simulated; shorter is better. docs/fleet-simulator.md")


def lines(results: Results) -> str:
    """Return p95 by load as an SVG."""
    plots = []
    for name, swept in results.sweeps.items():
        policies = list(next(iter(swept.values())))
        drawn = [
            Line(
                TITLES[policy],
                [(float(at), each[policy].ttft_p95_s) for at, each in swept.items()],
                ours=policy == OURS,
            )
            for policy in policies
        ]
        plots.append(Plot(f"{name}: TTFT p95 by load (log scale)", "load", "s", drawn))
    caption = "Simulated; lower is better. 100 % is what the hosts can do without any cache."
    return render_plots(plots, caption)


def write(results: Results) -> list[Path]:
    """Write charts and the page's tables; return what was written."""
    written = []
    for path, text in ((BARS, bars(results)), (LINES, lines(results))):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        written.append(path)
    page = replaced(PAGE.read_text() if PAGE.exists() else "", full(results))
    if page is not None:
        PAGE.write_text(page)
        written.append(PAGE)
    return written


def replaced(page: str, block: str) -> str | None:
    """Return the page with a new block between its markers; None when it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{BEGIN}\n{block}\n{END}{after}" if begin and end else None
