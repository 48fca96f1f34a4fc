"""What the workers of one gateway count together, in memory that all of them have mapped.

Each worker has a column of its own and is the only one to write it, so that a worker that was
killed is forgotten by clearing its column. What must not be decided by two at once is decided under
`flock(2)`, through a file description that each worker opened for itself: the kernel gives the lock
back when its holder dies, however it dies. (A semaphore in shared memory is ten times as fast, and
stays taken for ever.)

News go through a ring for each worker: the rows that it changed, and how many there were so far. A
reader that was lapped looks at everything.
"""

import fcntl
import mmap
import os
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Final, Literal

from arriero.core.roster import UNLIMITED
from arriero.core.tally import TallyFull

WORKERS_MAX: Final = 64
ROWS_MAX: Final = 16_384
RING_ROWS: Final = 4_096
PROMISE_MS: Final = 20  # how long a free slot is kept for the worker whose turn it is
_NAME_BYTES: Final = 16
_SINCE_BITS: Final = 44  # of milliseconds of the monotonic clock: 500 years
_SINCE_MASK: Final = (1 << _SINCE_BITS) - 1

_RUNNING: Final = 0  # [worker][row], 32 bits each
_RINGS: Final = _RUNNING + 4 * WORKERS_MAX * ROWS_MAX  # [worker][place], 32 bits each
_WANTED: Final = _RINGS + 4 * WORKERS_MAX * RING_ROWS  # [worker][row], 64 bits each
_HEADS: Final = _WANTED + 8 * WORKERS_MAX * ROWS_MAX  # [worker], 64 bits each
_PROMISES: Final = _HEADS + 8 * WORKERS_MAX  # [row], 64 bits each: until when, and to whom
_ROWS_USED: Final = _PROMISES + 8 * ROWS_MAX  # 64 bits
_NAMES: Final = _ROWS_USED + 8
_BYTES: Final = _NAMES + _NAME_BYTES * ROWS_MAX


def make_memory() -> int:
    """Return a file of zeros for a tally; pages that nobody writes take no memory."""
    fd = os.memfd_create("arriero-tally", os.MFD_CLOEXEC)
    os.ftruncate(fd, _BYTES)
    return fd


class SharedTally:
    """The tally as one worker sees it; `now_ms` is of the monotonic clock."""

    def __init__(
        self, fd: int, index: int, bells: Sequence[int], now_ms: Callable[[], int]
    ) -> None:
        """Use the memory `fd` as worker `index`; the workers are woken by these eventfds.

        Number -1 is the supervisor, who only forgets.
        """
        self._index = index
        self._count = len(bells)
        self._bells = bells
        self._now_ms = now_ms
        self._map = mmap.mmap(fd, _BYTES)
        self._lock = _Lock(fd)
        whole = memoryview(self._map)
        workers = range(self._count)
        self._running = [_part(whole, _RUNNING, at, ROWS_MAX, "i") for at in workers]
        self._rings = [_part(whole, _RINGS, at, RING_ROWS, "i") for at in workers]
        self._wanted = [_part(whole, _WANTED, at, ROWS_MAX, "q") for at in workers]
        self._heads = _part(whole, _HEADS, 0, WORKERS_MAX, "q")
        self._promises = _part(whole, _PROMISES, 0, ROWS_MAX, "q")
        self._rows_used = _part(whole, _ROWS_USED, 0, 1, "q")
        self._names = whole[_NAMES : _NAMES + _NAME_BYTES * ROWS_MAX]
        self._known: dict[bytes, int] = {}
        self._others = [at for at in workers if at != index]
        self._seen = {at: self._heads[at] for at in self._others}

    # -- rows

    def row(self, name: str) -> int:
        """Return the row of a name. Raises TallyFull when there are too many."""
        digest = blake2b(name.encode(), digest_size=_NAME_BYTES).digest()
        if digest not in self._known:
            with self._lock:
                used = self._rows_used[0]
                for row in range(len(self._known), used):
                    at = row * _NAME_BYTES
                    self._known[bytes(self._names[at : at + _NAME_BYTES])] = row
                if digest not in self._known:
                    self._add(digest, used)
        return self._known[digest]

    def _add(self, digest: bytes, row: int) -> None:
        if row >= ROWS_MAX:
            raise TallyFull(f"more than {ROWS_MAX} models on hosts were named since the start")
        self._names[row * _NAME_BYTES : (row + 1) * _NAME_BYTES] = digest
        self._rows_used[0] = row + 1
        self._known[digest] = row

    # -- requests

    def claim(self, row: int, slots: int) -> bool:
        """Count one more request if a slot is free and promised to nobody else."""
        if slots >= UNLIMITED:
            self.count(row)
            return True
        with self._lock:
            if not self.may_claim(row, slots):
                return False
            self._running[self._index][row] += 1
            self._promises[row] = 0
        self._tell(row)
        return True

    def may_claim(self, row: int, slots: int) -> bool:
        """Say whether a claim would do now."""
        free = slots - sum(column[row] for column in self._running)
        promise = self._promises[row]
        if promise and free > 0:
            until_ms, worker = divmod(promise, WORKERS_MAX)
            if worker != self._index and self._now_ms() < until_ms:
                free -= 1
        return free > 0

    def count(self, row: int) -> None:
        """Count one more request, whatever the others do."""
        self._running[self._index][row] += 1
        self._tell(row)

    def vacate(self, row: int, group_row: int) -> bool:
        """Count one less; True: the slot was promised to another worker, which has been told."""
        with self._lock:
            self._running[self._index][row] -= 1
            turn = self._whose_turn(group_row)
            if turn is not None:
                now_ms = self._now_ms()
                cell = self._wanted[turn]
                cell[group_row] = (cell[group_row] & ~_SINCE_MASK) | now_ms
                self._promises[row] = (now_ms + PROMISE_MS) * WORKERS_MAX + turn
        self._tell(row)
        if turn is None or turn == self._index:
            return False
        self._ring(turn)
        return True

    def foreign(self, row: int) -> int:
        """Return how many requests the other workers have there."""
        return sum(self._running[at][row] for at in self._others)

    # -- who waits

    def want(self, group_row: int, urgency: int | None) -> None:
        """Tell who waits here for stations of a group: the lower the more urgent; None: nobody.

        Since when one waits is counted from the last slot that one got.
        """
        column = self._wanted[self._index]
        with self._lock:
            if urgency is None:
                column[group_row] = 0
            else:
                since_ms = column[group_row] & _SINCE_MASK or self._now_ms()
                column[group_row] = (urgency + 1 << _SINCE_BITS) | since_ms

    def _whose_turn(self, group_row: int) -> int | None:
        waiting = [
            (wanted, at) for at, column in enumerate(self._wanted) if (wanted := column[group_row])
        ]
        return min(waiting)[1] if waiting else None

    # -- news

    def news(self) -> Iterable[int]:
        """Return the rows that other workers changed since the last call."""
        changed: set[int] = set()
        for at in self._others:
            head, seen = self._heads[at], self._seen[at]
            if head == seen:
                continue
            self._seen[at] = head
            if not 0 < head - seen <= RING_ROWS // 2:  # lapped, or about to be
                return range(self._rows_used[0])
            ring = self._rings[at]
            changed.update(ring[place % RING_ROWS] for place in range(seen, head))
        return changed

    def _tell(self, row: int) -> None:
        head = self._heads[self._index]
        self._rings[self._index][head % RING_ROWS] = row
        self._heads[self._index] = head + 1

    def _ring(self, worker: int) -> None:
        os.eventfd_write(self._bells[worker], 1)

    # -- the supervisor's

    def forget(self, worker: int) -> None:
        """Count nothing any more of a worker that is no longer there, and wake the others."""
        with self._lock:
            for column in (self._running[worker], self._wanted[worker]):
                cells = column.cast("B")
                cells[:] = bytes(len(cells))
        for bell in self._bells:
            os.eventfd_write(bell, 1)


class _Lock:
    """Exclusive while entered."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        # A description of our own: through the inherited one, the lock would be everybody's.
        self._fd = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)

    def __enter__(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)


def _part(
    whole: memoryview, begin: int, at: int, length: int, kind: Literal["i", "q"]
) -> "memoryview[int]":
    """Return one of the arrays of integers of a kind that lie behind each other."""
    size = (4 if kind == "i" else 8) * length
    return whole[begin + at * size : begin + (at + 1) * size].cast(kind)
