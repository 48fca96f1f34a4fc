"""What the workers of one gateway count together of limits, in memory that all have mapped.

Each subject (a key, a model, both) has a row: its windows, the sums of its day and month, and in
`app.turns` how many requests each worker has under way. All is read and written under one lock, so
limits are exact whatever worker a request comes to. A worker that is killed takes nothing with it
but what it had under way.

Rows are found by a hash of the name, by linear probing. Rows are never given back; one in which
nothing is left to remember is taken over by the next name that comes by. Who holds on to a row sees
by the hash in it that it is somebody else's.

Windows are those of `core.limits`: a minute in buckets of a second.
"""

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Final

from arriero.app import locked
from arriero.app.locked import Lock, part
from arriero.app.turns import Turns, turns_bytes
from arriero.core.window import WINDOW_S

ROWS_MAX: Final = 262_144
PLACES: Final = 2 * ROWS_MAX  # of the index
PROBES_MAX: Final = 64
BUCKETS: Final = WINDOW_S + 1  # the oldest counts until its last moment is a minute ago
NOTHING: Final = 0  # a row that is nobody's

# The cells of a row, 64 bits each.
NAME: Final = 0
LAST: Final = 1  # the second until which time has passed
DAY: Final = 2  # and the sum of it
MONTH: Final = 4
REQUESTS: Final = 6  # the total of the window, and its buckets
TOKENS: Final = REQUESTS + 1 + BUCKETS
CELLS: Final = TOKENS + 1 + BUCKETS

_ROWS_USED: Final = 0  # cells of the head
_PREPARED: Final = 1
_NEVER: Final = 0  # in the index: nobody was here yet
_GONE: Final = -1  # whoever was here lost its row
_HEAD_BYTES: Final = 4096
_INDEX: Final = _HEAD_BYTES
_ROWS: Final = _INDEX + 2 * 8 * PLACES  # [place]: name, row
_TURNS: Final = _ROWS + 8 * CELLS * ROWS_MAX
_BYTES: Final = _TURNS + turns_bytes(ROWS_MAX)


class MetersFull(Exception):
    """There is no row for one more name now."""


def make_memory() -> int:
    """Return a file of zeros for meters."""
    return locked.make_memory("arriero-meters", _BYTES)


class SharedMeters:
    """The meters as one worker sees them. All but `lock` and `prepared` is used within the lock."""

    def __init__(
        self, fd: int, index: int, bells: Sequence[int], now_ms: Callable[[], int]
    ) -> None:
        """Use the memory `fd` as worker `index`; -1 is the supervisor, who only forgets."""
        self._map = mmap.mmap(fd, _BYTES)
        whole = memoryview(self._map)
        self._head = part(whole, 0, 0, _HEAD_BYTES // 8, "q")
        self._index = part(whole, _INDEX, 0, 2 * PLACES, "q")
        self._bells = bells
        self.lock = Lock(fd)
        self.cells = part(whole, _ROWS, 0, CELLS * ROWS_MAX, "q")
        self.turns = Turns(whole[_TURNS:], ROWS_MAX, index, len(bells), now_ms)
        if not self._head[_ROWS_USED]:
            self._head[_ROWS_USED] = NOTHING + 1

    @property
    def prepared(self) -> bool:
        """Whether what was used before the workers began has been written down."""
        return bool(self._head[_PREPARED])

    def prepare(self) -> None:
        """Say that it has."""
        self._head[_PREPARED] = 1

    def row(self, name: int, second: int, month: int) -> int:
        """Return the row of a name, made if there is none. Raises MetersFull."""
        for at in _places(name):
            known = self._index[at]
            if known == name:
                return self._index[at + 1]
            if not known:  # never used, so the name is not behind it either
                break
        return self._make(name, second, month)

    def _make(self, name: int, second: int, month: int) -> int:
        index, places = self._index, list(_places(name))
        free = next((at for at in places if index[at] in {_NEVER, _GONE}), None)
        used = self._head[_ROWS_USED]
        if free is not None and used < ROWS_MAX:
            self._head[_ROWS_USED] = used + 1
            return self._take(free, name, used)
        for at in places:
            if index[at] not in {_NEVER, _GONE} and self._is_idle(index[at + 1], second, month):
                index[at] = _GONE
                return self._take(at if free is None else free, name, index[at + 1])
        raise MetersFull

    def _take(self, at: int, name: int, row: int) -> int:
        begin = row * CELLS
        self.cells[begin : begin + CELLS] = _EMPTY
        self.cells[begin + NAME] = name
        self._index[at + 1] = row  # first, or a reader after our death would find a wrong row
        self._index[at] = name
        return row

    def rests(self, row: int, second: int) -> bool:
        """Say whether nothing happens in a row and its windows are over; needs no lock."""
        over = second - self.cells[row * CELLS + LAST] > WINDOW_S
        return over and not (self.turns.running(row) or self.turns.is_wanted(row))

    def _is_idle(self, row: int, second: int, month: int) -> bool:
        begin = row * CELLS + MONTH
        has_sums = self.cells[begin] == month and self.cells[begin + 1]
        return not has_sums and self.rests(row, second)

    def advance(self, begin: int, second: int) -> None:
        """Let time pass in the windows of the row whose cells begin there.

        The totals are added up anew: who died between two writes may have left them wrong.
        """
        cells, last = self.cells, self.cells[begin + LAST]
        if second <= last:
            return
        for window in (begin + REQUESTS, begin + TOKENS):
            buckets = slice(window + 1, window + 1 + BUCKETS)
            if second - last >= BUCKETS:
                cells[buckets] = _EMPTY_WINDOW
            else:
                for at in range(last + 1, second + 1):
                    cells[window + 1 + at % BUCKETS] = 0
            cells[window] = sum(cells[buckets])
        cells[begin + LAST] = second

    def ring(self, worker: int) -> None:
        """Wake a worker, for whom there is room now."""
        os.eventfd_write(self._bells[worker], 1)

    def forget(self, worker: int) -> None:
        """Count nothing any more as under way of a worker that is no longer there."""
        with self.lock:
            self.turns.forget(worker)
        for bell in self._bells:
            os.eventfd_write(bell, 1)


def _places(name: int) -> Iterator[int]:
    """Return where in the index a name may be, in order."""
    return (2 * ((name + probe) % PLACES) for probe in range(PROBES_MAX))


def name_of(place: tuple[str, str]) -> int:
    """Return what tells a subject, by key and alias, from all others; never 0."""
    digest = blake2b("\0".join(place).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1 or 1


_EMPTY: Final = memoryview(bytes(8 * CELLS)).cast("q")
_EMPTY_WINDOW: Final = memoryview(bytes(8 * BUCKETS)).cast("q")
