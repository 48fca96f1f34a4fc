"""Which aliases compete for the same slots."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def cells_of(used: Sequence[Sequence[T]]) -> list[int]:
    """Return a number for each of `used` (the stations of one alias), equal where they are joined.

    Two are joined when they share a station, directly or by way of others: the connected components
    of a graph, found by union-find with path halving.
    """
    above = list(range(len(used)))

    def top(at: int) -> int:
        while above[at] != at:
            above[at] = above[above[at]]
            at = above[at]
        return at

    first: dict[T, int] = {}
    for at, stations in enumerate(used):
        for station in stations:
            above[top(at)] = top(first.setdefault(station, at))
    return [top(at) for at in range(len(used))]
