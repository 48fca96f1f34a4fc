"""What the workers of one gateway count together, in memory that all of them have mapped.

Who has how many requests where, and whose turn it is, is `app.turns`. While there are few rows, who
wants to know the news looks at all of them. Of many, the news go through a ring for each
worker: the rows that it changed, and how many there were so far. A reader that was lapped looks at
everything.
"""

import mmap
import os
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Final

from arriero.app import locked
from arriero.app.locked import Lock, part
from arriero.app.turns import WORKERS_MAX, Turns, turns_bytes
from arriero.core.tally import TallyFull

ROWS_MAX: Final = 16_384
RING_ROWS: Final = 4_096
FEW_ROWS: Final = 64  # to look at them costs less than to tell each other what changed
_NAME_BYTES: Final = 16

_TURNS: Final = 0
_RINGS: Final = _TURNS + turns_bytes(ROWS_MAX)  # [worker][place], 32 bits each
_HEADS: Final = _RINGS + 4 * WORKERS_MAX * RING_ROWS  # [worker], 64 bits each
_ROWS_USED: Final = _HEADS + 8 * WORKERS_MAX  # 64 bits
_NAMES: Final = _ROWS_USED + 8
_BYTES: Final = _NAMES + _NAME_BYTES * ROWS_MAX


def make_memory() -> int:
    """Return a file of zeros for a tally."""
    return locked.make_memory("arriero-tally", _BYTES)


class SharedTally:
    """The tally as one worker sees it; `now_ms` is of the monotonic clock."""

    def __init__(
        self, fd: int, index: int, bells: Sequence[int], now_ms: Callable[[], int]
    ) -> None:
        """Use the memory `fd` as worker `index`; the workers are woken by these eventfds.

        Number -1 is the supervisor, who only forgets.
        """
        self._index = index
        self._bells = bells
        self._map = mmap.mmap(fd, _BYTES)
        self._lock = Lock(fd)
        whole = memoryview(self._map)
        workers = range(len(bells))
        self._turns = Turns(whole[_TURNS:_RINGS], ROWS_MAX, index, len(bells), now_ms)
        self._rings = [part(whole, _RINGS, at, RING_ROWS, "i") for at in workers]
        self._heads = part(whole, _HEADS, 0, WORKERS_MAX, "q")
        self._ring = self._rings[index]
        self._head = self._heads[index]  # where the life before ended
        self._rows_used = part(whole, _ROWS_USED, 0, 1, "q")
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

    # These are on the way of each request, where a call costs more than what it does: the
    # processor has forgotten the code since the last one. So they are written in one piece each.

    def claim(self, row: int, slots: int, seen: int) -> bool:
        """Count one more request if a slot is free and promised to nobody else.

        Without the lock, if far more are free than there are workers, as far as the caller has
        `seen`: counted first and looked at afterwards. Of those who do so at the same time one at
        least sees the others, but for one request of each that may be on its way through a
        processor's store buffer; so that many have to be left over.
        """
        turns = self._turns
        own, most = turns.own, slots - turns.spare
        if seen < most:
            own[row] = taken = own[row] + 1
            for column in turns.others:
                taken += column[row]
            if taken <= most:
                if self._rows_used[0] > FEW_ROWS:
                    self._tell(row)
                return True
            own[row] -= 1
        return self._claim_last(row, slots)

    def vacate(self, row: int, group_row: int) -> bool:
        """Count one less; True: the slot was promised to another worker, which has been told.

        Who says at the same time that it waits looks again afterwards.
        """
        turns = self._turns
        turns.own[row] -= 1
        if self._rows_used[0] > FEW_ROWS:
            self._tell(row)
        for column in turns.wanted:
            if column[group_row]:
                return self._promise(row, group_row)
        return False

    def _claim_last(self, row: int, slots: int) -> bool:
        with self._lock:
            if not self._turns.may_take(row, slots):
                return False
            self._turns.take(row)
        self._tell(row)
        return True

    def _promise(self, row: int, group_row: int) -> bool:
        with self._lock:
            turn = self._turns.promise(row, group_row)
        if turn is None:
            return False
        os.eventfd_write(self._bells[turn], 1)
        return True

    def may_claim(self, row: int, slots: int) -> bool:
        """Say whether a claim would do now."""
        return self._turns.may_take(row, slots)

    def count(self, row: int) -> None:
        """Count one more request, whatever the others do."""
        self._turns.add(row)
        self._tell(row)

    def foreign(self, row: int) -> int:
        """Return how many requests the other workers have there."""
        return self._turns.foreign(row)

    def want(self, group_row: int, urgency: int | None) -> None:
        """Tell who waits here for stations of a group: the lower the more urgent; None: nobody."""
        with self._lock:
            self._turns.want(group_row, urgency)

    # -- news

    def news(self) -> Iterable[int]:
        """Return the rows that other workers changed since the last call."""
        if self._rows_used[0] <= FEW_ROWS:
            return range(self._rows_used[0])
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
        head = self._head
        self._ring[head % RING_ROWS] = row
        self._heads[self._index] = self._head = head + 1

    # -- the supervisor's

    def forget(self, worker: int) -> None:
        """Count nothing any more of a worker that is no longer there, and wake the others."""
        with self._lock:
            self._turns.forget(worker)
        for bell in self._bells:
            os.eventfd_write(bell, 1)
