"""What arriero has to reach, as questions to the results of one run."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.results import Results
from benchmarks.stats import ratio

STREAMS = 1000


@dataclass(frozen=True)
class Verdict:
    """One target: reached, missed, or not to be told from this run (None)."""

    title: str
    passed: bool | None
    found: str

    @property
    def word(self) -> str:
        """The verdict as one word."""
        return {True: "PASS", False: "FAIL", None: "UNKNOWN"}[self.passed]


def _unknown(title: str) -> Verdict:
    return Verdict(title, None, "not measured in this run")


def _at_most_times(results: Results, title: str, key: str, other: str, times: float) -> Verdict:
    """Compare arriero's figure with another's: at most so many times it."""
    ours, theirs = results.cell("arriero", key), results.cell(other, key)
    found = ratio(ours, theirs)
    if found is None or ours is None or theirs is None:
        return _unknown(title)
    text = f"{found:.2f}x ({ours.value:.1f} to {theirs.value:.1f} µs)"
    return Verdict(title, found <= times, text)


def _per_request(results: Results) -> Verdict:
    title = "processor time per request: at most 2x HAProxy's"
    return _at_most_times(results, title, "cpu_us_per_request", "haproxy", 2.0)


def _rust_peer(results: Results) -> Verdict:
    title = "processor time per request: at most half of the best Rust peer's"
    key = "cpu_us_per_request"
    peers = [row for row in results.rows if row.family == "rust" and key in row.cells]
    if not peers:
        return _unknown(title)
    best = min(peers, key=lambda row: row.cells[key].value)
    verdict = _at_most_times(results, title, key, best.name, 0.5)
    return Verdict(title, verdict.passed, f"{verdict.found}, {best.title}")


def _litellm(results: Results) -> Verdict:
    title = "processor time per request: at least 200x less than LiteLLM's"
    key = "cpu_us_per_request"
    found = ratio(results.cell("litellm", key), results.cell("arriero", key))
    if found is None:
        return _unknown(title)
    return Verdict(title, found >= 200, f"{found:.0f}x less")


def _per_chunk(results: Results) -> Verdict:
    title = "processor time per streamed chunk: at most 2x HAProxy's"
    return _at_most_times(results, title, "cpu_us_per_chunk", "haproxy", 2.0)


def _no_stall(results: Results) -> Verdict:
    title = "1,000 streams of 20 chunks/s: no stall over 200 ms"
    stalls = results.cell("arriero", "stalls")
    gap = results.cell("arriero", "gap_max_ms")
    stood = results.cell("arriero", "streams_open")
    if stalls is None or gap is None or stood is None:
        return _unknown(title)
    text = f"{stalls.value:.0f} stalls, longest gap {gap.value:.0f} ms, {stood.value:.0f} streams"
    return Verdict(title, stalls.value == 0 and stood.value >= STREAMS, text)


def _below(title: str, key: str, limit: float, unit: str) -> Callable[[Results], Verdict]:
    def look(results: Results) -> Verdict:
        found = results.cell("arriero", key)
        if found is None:
            return _unknown(title)
        return Verdict(title, found.value < limit, f"{found.value:.3g} {unit}")

    return look


TARGETS: tuple[Callable[[Results], Verdict], ...] = (
    _per_request,
    _rust_peer,
    _litellm,
    _per_chunk,
    _no_stall,
    _below(
        "added time to first token at 100 streams: p99 under 2 ms", "added_ttft_p99_ms", 2, "ms"
    ),
    _below("first chat answered in under 1 s from the start", "ready_s", 1, "s"),
    _below("ready (/health/readiness) in under 1 s from the start", "ready_probe_s", 1, "s"),
    _below("resident memory when idle: under 80 MB", "rss_idle_mb", 80, "MB"),
)


def verdicts(results: Results) -> list[Verdict]:
    """Return the verdict on every target."""
    return [look(results) for look in TARGETS]
