"""The tables of a report: which figures, in which order, and how a cell is written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.chart import plain
from benchmarks.results import Results, Row
from benchmarks.stats import Cell, ratio
from benchmarks.targets import verdicts

NOTHING = "-"


@dataclass(frozen=True)
class Column:
    """A heading and how to fill it for one row."""

    title: str
    fill: Callable[[Results, Row], str]


def number(cell: Cell | None, factor: float = 1.0, *, spread: bool = False) -> str:
    """Write a cell: its value, its range when asked, a star when there is a remark."""
    if cell is None:
        return NOTHING
    text = _signed(cell.value * factor)
    if spread and cell.rounds > 1:
        text += f" ({_signed(cell.low * factor)} to {_signed(cell.high * factor)})"
    return text + ("\\*" if cell.marks else "")


def _signed(value: float) -> str:
    if value == 0:
        return "0"
    return plain(value) if value > 0 else f"-{plain(-value)}"


def figure(title: str, key: str, factor: float = 1.0, *, spread: bool = False) -> Column:
    def fill(_: Results, row: Row) -> str:
        return number(row.cells.get(key), factor, spread=spread)

    return Column(title, fill)


def times(title: str, key: str, other: str) -> Column:
    """Return a column of ratios to another row's figure."""

    def fill(results: Results, row: Row) -> str:
        found = ratio(row.cells.get(key), results.cell(other, key))
        return NOTHING if found is None else f"{plain(found)}x"

    return Column(title, fill)


NAME = Column("", lambda _, row: f"**{row.title}**" if row.family == "ours" else row.title)

OVERVIEW = (
    NAME,
    figure("CPU per request, µs", "cpu_us_per_request"),
    times("to HAProxy", "cpu_us_per_request", "haproxy"),
    times("to arriero", "cpu_us_per_request", "arriero"),
    figure("added p99, ms", "added_p99_c1_ms"),
    figure("CPU per streamed chunk, µs", "cpu_us_per_chunk"),
    times("to HAProxy", "cpu_us_per_chunk", "haproxy"),
    figure("stalls, 1,000 streams", "stalls"),
    figure("added first token p99, ms", "added_ttft_p99_ms"),
    figure("idle memory, MB", "rss_idle_mb"),
    figure("ready, s", "ready_s"),
)

REQUESTS = (
    NAME,
    figure("CPU per request, µs", "cpu_us_per_request", spread=True),
    times("to HAProxy", "cpu_us_per_request", "haproxy"),
    times("to arriero", "cpu_us_per_request", "arriero"),
    figure("CPU per request at 5,000/s, µs", "cpu_us_per_request_paced"),
    times("to HAProxy", "cpu_us_per_request_paced", "haproxy"),
    figure("requests/s", "requests_per_s"),
    figure("added p50, 1 connection, ms", "added_p50_c1_ms"),
    figure("added p99, 1 connection, ms", "added_p99_c1_ms"),
    figure("added p50, 32 connections, ms", "added_p50_c32_ms"),
    figure("added p99, 32 connections, ms", "added_p99_c32_ms"),
)

STREAMS = (
    NAME,
    figure("CPU per chunk, 1,000 streams, µs", "cpu_us_per_chunk", spread=True),
    times("to HAProxy", "cpu_us_per_chunk", "haproxy"),
    times("to arriero", "cpu_us_per_chunk", "arriero"),
    figure("CPU per chunk, 100 streams, µs", "cpu_us_per_chunk_100", spread=True),
    figure("streams standing of 1,000", "streams_open"),
    figure("stalls over 200 ms", "stalls"),
    figure("longest gap, ms", "gap_max_ms"),
    figure("added first token p50, ms", "added_ttft_p50_ms"),
    figure("added first token p99, ms", "added_ttft_p99_ms"),
    figure("chunks/s, unpaced", "chunks_per_s_max"),
    figure("next answer after 32 abandoned, ms", "recovery_ms"),
)

MEMORY = (
    NAME,
    figure("ready, s", "ready_s"),
    figure("idle, MB", "rss_idle_mb"),
    figure("after the requests, MB", "rss_loaded_mb"),
    figure("1,000 waiting streams, MB", "rss_idle_streams_mb"),
    figure("1,000 active streams, MB", "rss_active_streams_mb"),
    figure("after the streams, MB", "rss_after_mb"),
)


def _checks(_: Results, row: Row) -> str:
    cell = row.cells.get("checks_keys")
    return NOTHING if cell is None else ("yes" if cell.value else "no")


ENTRANTS = (
    NAME,
    Column("version", lambda _, row: row.version),
    Column("refuses without key", _checks),
    Column("what it does here", lambda _, row: row.job if not row.not_run else _why(row)),
)


def _why(row: Row) -> str:
    return f"not run: {row.not_run}".replace("|", "/").replace("\n", " ")


def table(results: Results, columns: Sequence[Column], rows: Sequence[Row]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = ["| " + " | ".join(column.title for column in columns) + " |"]
    lines.append("|" + "|".join("---" if not i else "--:" for i in range(len(columns))) + "|")
    return lines + [
        "| " + " | ".join(column.fill(results, row) for column in columns) + " |" for row in rows
    ]


def measured(results: Results) -> list[Row]:
    """Return the gateways that ran; the direct row is the rig's floor and no gateway."""
    return [row for row in results.rows if row.not_run is None and row.family != "rig"]


def remarks(results: Results) -> list[str]:
    """Return what the stars stand for: one line a remark, with the figures it concerns."""
    lines = []
    for row in results.rows:
        by_mark: dict[str, list[str]] = {}
        for key, marks in _all_marks(row).items():
            for mark in marks:
                by_mark.setdefault(mark, []).append(f"`{key}`")
        lines += [f"- {row.title}: {mark}: {', '.join(keys)}" for mark, keys in by_mark.items()]
    return lines + [f"- {note}" for note in results.notes]


def _all_marks(row: Row) -> dict[str, Sequence[str]]:
    return {key: cell.marks for key, cell in row.cells.items()} | dict(row.missing)


def target_lines(results: Results) -> list[str]:
    return [f"{verdict.word:7} {verdict.title}: {verdict.found}" for verdict in verdicts(results)]
