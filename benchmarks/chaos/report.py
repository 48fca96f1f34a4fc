"""What a run came to, as a table for people and as JSON."""

import platform
import re
from collections.abc import Sequence

import msgspec

from benchmarks.chaos.run import Outcome
from benchmarks.machine import facts

GROWTH_KIB_MAX = 16_384


def verdict(outcome: Outcome) -> list[str]:
    """Return what is wrong, nothing if all is well."""
    tally = outcome.tally
    wrong = [
        f"{count} answers {what}"
        for what, count in (
            ("failed", tally.failed),
            ("broke off", tally.broken),
            ("altered", tally.altered),
            ("miscounted", tally.miscounted),
        )
        if count
    ]
    wrong += [f"not at rest: {each}" for each in outcome.unrest]
    if outcome.grown_kib > GROWTH_KIB_MAX:
        wrong.append(f"memory grew by {outcome.grown_kib} KiB")
    if not tally.streams:
        wrong.append("there was no stream")
    return wrong


def table(outcome: Outcome) -> str:
    """Return a table of two columns."""
    rows = [(name, _shown(value)) for name, value in figures(outcome).items()]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows)


def figures(outcome: Outcome) -> dict[str, object]:
    """Return all figures by name, in reading order."""
    settings, tally = outcome.settings, outcome.tally
    first, gaps = sorted(tally.first_token_s), sorted(tally.gap_s)
    return {
        "seconds": round(outcome.took_s, 1),
        "concurrent clients": settings.streams,
        "backends": settings.backends,
        "slots of each": settings.slots,
        "seed": settings.seed,
        "blows": dict(sorted(outcome.struck.items())),
        "streams": tally.streams,
        "whole answers": tally.whole,
        "characters compared": tally.characters,
        "failed": tally.failed,
        "broken": tally.broken,
        "altered": tally.altered,
        "miscounted": tally.miscounted,
        "attempts by backend": _by_label(outcome, "arriero_backend_requests_total"),
        "resumptions": _by_label(outcome, "arriero_resumptions_total"),
        "attempts that failed": _by_label(outcome, "arriero_backend_failures_total"),
        "retries": int(outcome.counts.get("arriero_retries_total", 0)),
        "ejections": int(outcome.counts.get("arriero_ejections_total", 0)),
        "first token p50, s": _percentile(first, 50),
        "first token p99, s": _percentile(first, 99),
        "longest gap in a stream p50, s": _percentile(gaps, 50),
        "longest gap in a stream p99, s": _percentile(gaps, 99),
        "memory warm, MiB": round(outcome.warm_kib / 1024, 1),
        "memory at the end, MiB": round(outcome.end_kib / 1024, 1),
        "memory at most, MiB": round(outcome.most_kib / 1024, 1),
        "still counted at the end": outcome.unrest or "nothing",
    }


def document(outcome: Outcome) -> bytes:
    """Return the run as JSON."""
    whole = {
        "machine": {**facts(), "python": platform.python_version()},
        "figures": figures(outcome),
        "wrong": verdict(outcome),
        "events": [{"at_s": round(event.at_s, 2), "what": str(event)} for event in outcome.events],
        "examples": outcome.tally.examples,
    }
    return msgspec.json.format(msgspec.json.encode(whole)) + b"\n"


def _by_label(outcome: Outcome, family: str) -> dict[str, int]:
    """Return a family's counts by its last label: outcomes, or reasons over all backends."""
    found: dict[str, int] = {}
    for key, value in outcome.counts.items():
        if key.startswith(family):
            label = re.findall(r'"([^"]*)"', key)[-1]
            found[label] = found.get(label, 0) + int(value)
    return dict(sorted(found.items()))


def _percentile(ordered: Sequence[float], percent: int) -> float:
    if not ordered:
        return 0.0
    return round(ordered[min(len(ordered) * percent // 100, len(ordered) - 1)], 3)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items()) or "none"
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
