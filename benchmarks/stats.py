"""From rounds of figures to one figure with its spread, and from figures to ratios."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

DIRECT = "direct"

# Figures of which the row without a gateway has its own: what is reported is the difference.
ADDED = {
    "added_p50_c1_ms": "p50_c1_ms",
    "added_p99_c1_ms": "p99_c1_ms",
    "added_p50_c32_ms": "p50_c32_ms",
    "added_p99_c32_ms": "p99_c32_ms",
    "added_ttft_p50_ms": "ttft_p50_ms",
    "added_ttft_p99_ms": "ttft_p99_ms",
}

# Of these the worst round counts and not the median: one stall in three rounds is a stall.
WORST = {"stalls": max, "gap_max_ms": max, "streams_open": min}

Round = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Cell:
    """One figure of one entrant: the reported value, the range over the rounds, the remarks."""

    value: float
    low: float
    high: float
    rounds: int
    marks: list[str] = field(default_factory=list)


def with_added(figures: Round) -> dict[str, dict[str, float]]:
    """Return a round with the differences to its own direct row put in."""
    direct = figures.get(DIRECT, {})
    return {name: {**values, **_added(name, values, direct)} for name, values in figures.items()}


def _added(name: str, values: Mapping[str, float], direct: Mapping[str, float]) -> dict[str, float]:
    if name == DIRECT:
        return {}
    return {
        added: values[plain] - direct[plain]
        for added, plain in ADDED.items()
        if plain in values and plain in direct
    }


def cells(
    rounds: Sequence[Round], marks: Sequence[Mapping[str, Mapping[str, Sequence[str]]]]
) -> dict[str, dict[str, Cell]]:
    """Return for every entrant and figure the cell over all rounds."""
    full = [with_added(figures) for figures in rounds]
    names = dict.fromkeys(name for figures in full for name in figures)
    return {name: _entrant(name, full, marks) for name in names}


def _entrant(
    name: str,
    rounds: Sequence[Round],
    marks: Sequence[Mapping[str, Mapping[str, Sequence[str]]]],
) -> dict[str, Cell]:
    mine = [figures.get(name, {}) for figures in rounds]
    keys = dict.fromkeys(key for values in mine for key in values)
    said = [remarks.get(name, {}) for remarks in marks]
    return {
        key: cell(key, [values[key] for values in mine if key in values], _marks_of(key, said))
        for key in keys
    }


def missing(
    name: str,
    found: Mapping[str, Cell],
    marks: Sequence[Mapping[str, Mapping[str, Sequence[str]]]],
) -> dict[str, list[str]]:
    """Return the remarks about figures of an entrant that no round could take."""
    said = [remarks.get(name, {}) for remarks in marks]
    keys = dict.fromkeys(key for remarks in said for key in remarks if key not in found)
    return {key: _marks_of(key, said) for key in keys}


def _marks_of(key: str, said: Sequence[Mapping[str, Sequence[str]]]) -> list[str]:
    plain = ADDED.get(key, key)
    return list(dict.fromkeys(mark for remarks in said for mark in remarks.get(plain, ())))


def cell(key: str, values: Sequence[float], marks: list[str]) -> Cell:
    """Return the median (or the worst, see `WORST`) of the rounds with their range."""
    choose = WORST.get(key, statistics.median)
    return Cell(float(choose(values)), min(values), max(values), len(values), marks)


def ratio(ours: Cell | None, theirs: Cell | None) -> float | None:
    """Return how many times theirs ours is; None when one is missing or theirs is zero."""
    if ours is None or theirs is None or theirs.value <= 0:
        return None
    return ours.value / theirs.value
