"""Slots that several workers take and give back in turn, in memory that all of them have mapped.

Each worker has a column of its own for what it has under way, so that a worker that was killed is
forgotten by clearing its column. A slot that becomes free goes to the worker that was served
longest ago among those that have the most urgent request waiting for it: it is promised to that
worker for a moment. Whoever takes, gives or says that it waits holds the memory's lock.
"""

from collections.abc import Callable
from typing import Final

from arriero.app.locked import part

WORKERS_MAX: Final = 64
PROMISE_MS: Final = 20  # how long a free slot is kept for the worker whose turn it is
_SINCE_BITS: Final = 44  # of milliseconds of the monotonic clock: 500 years
_SINCE_MASK: Final = (1 << _SINCE_BITS) - 1
_RUNNING_BYTES: Final = 4
_CELL_BYTES: Final = 8


def turns_bytes(rows: int) -> int:
    """Return how much memory so many rows take; pages that nobody writes take none."""
    return rows * (WORKERS_MAX * (_RUNNING_BYTES + _CELL_BYTES) + _CELL_BYTES)


class Turns:
    """What each row's slots are taken by, as one of `count` workers sees it; -1 is none of them."""

    __slots__ = (
        "_index",
        "_now_ms",
        "_promises",
        "_running",
        "others",
        "own",
        "spare",
        "wanted",
    )

    def __init__(
        self,
        memory: memoryview,
        rows: int,
        index: int,
        count: int,
        now_ms: Callable[[], int],
    ) -> None:
        """Use `turns_bytes(rows)` of memory; `now_ms` is of the monotonic clock."""
        workers = range(count)
        self._index = index
        self.spare = count
        self._now_ms = now_ms
        wanted = WORKERS_MAX * rows * _RUNNING_BYTES
        promises = wanted + WORKERS_MAX * rows * _CELL_BYTES
        self._running = [part(memory, 0, at, rows, "i") for at in workers]
        self.wanted = [part(memory, wanted, at, rows, "q") for at in workers]
        self._promises = part(memory, promises, 0, rows, "q")
        # Of each worker's column; for who counts without the lock (`app.tally`).
        self.own = self._running[index]
        self.others = [self._running[at] for at in workers if at != index]

    def running(self, row: int) -> int:
        """Return how many slots are taken."""
        return self.own[row] + self.foreign(row)

    def foreign(self, row: int) -> int:
        """Return how many slots the other workers have."""
        found = 0
        for column in self.others:
            found += column[row]
        return found

    def may_take(self, row: int, slots: int) -> bool:
        """Say whether a slot is free, and promised to nobody else."""
        free = slots - self.own[row]
        for column in self.others:
            free -= column[row]
        if free > 0 and (promise := self._promises[row]):
            until_ms, worker = divmod(promise, WORKERS_MAX)
            if worker != self._index and self._now_ms() < until_ms:
                free -= 1
        return free > 0

    def take(self, row: int) -> None:
        """Have one more slot; what was promised to us is used up by it."""
        self.own[row] += 1
        promise = self._promises[row]
        if promise and promise % WORKERS_MAX == self._index:
            self._promises[row] = 0

    def add(self, row: int) -> None:
        """Have one more slot, whatever was promised; needs no lock."""
        self.own[row] += 1

    def give(self, row: int, group_row: int) -> int | None:
        """Have one less, and promise it to who waits for the group, as `promise`."""
        self.own[row] -= 1
        return self.promise(row, group_row)

    def promise(self, row: int, group_row: int) -> int | None:
        """Promise a slot that has become free; return the other worker that is to be told."""
        turn = self._whose_turn(group_row)
        if turn is None:
            return None
        now_ms = self._now_ms()
        cell = self.wanted[turn]
        cell[group_row] = (cell[group_row] & ~_SINCE_MASK) | now_ms
        self._promises[row] = (now_ms + PROMISE_MS) * WORKERS_MAX + turn
        return None if turn == self._index else turn

    def want(self, group_row: int, urgency: int | None) -> None:
        """Tell that we wait for slots of a group: the lower the more urgent; None: we do not.

        Since when one waits is counted from the last slot that one got.
        """
        column = self.wanted[self._index]
        if urgency is None:
            column[group_row] = 0
        else:
            since_ms = column[group_row] & _SINCE_MASK or self._now_ms()
            column[group_row] = (urgency + 1 << _SINCE_BITS) | since_ms

    def is_wanted(self, group_row: int) -> bool:
        """Say whether any worker waits for slots of a group."""
        return any(column[group_row] for column in self.wanted)

    def _whose_turn(self, group_row: int) -> int | None:
        best, turn = 0, None
        for at, column in enumerate(self.wanted):
            wanted = column[group_row]
            if wanted and (turn is None or wanted < best):
                best, turn = wanted, at
        return turn

    def forget(self, worker: int) -> None:
        """Clear what a worker had that is no longer there."""
        for column in (self._running[worker], self.wanted[worker]):
            cells = column.cast("B")
            cells[:] = bytes(len(cells))
