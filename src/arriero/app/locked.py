"""Memory that several processes have mapped, and the lock that guards it.

What must not be decided by two at once is decided under `flock(2)`, through a file description that
each process opened for itself: the kernel gives the lock back when its holder dies, however it
dies. (A semaphore in shared memory is ten times as fast, and stays taken for ever.)
"""

import fcntl
import os
from typing import Literal


def make_memory(name: str, size_bytes: int) -> int:
    """Return a file of zeros in memory; pages that nobody writes take none."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    os.ftruncate(fd, size_bytes)
    return fd


class Lock:
    """Exclusive while entered; one process may enter it again within."""

    __slots__ = ("_depth", "_fd")

    def __init__(self, fd: int) -> None:
        # A description of our own: through the inherited one, the lock would be everybody's.
        self._fd = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
        self._depth = 0

    def __enter__(self) -> None:
        if not self._depth:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            fcntl.flock(self._fd, fcntl.LOCK_UN)


def part(
    whole: memoryview, begin: int, at: int, length: int, kind: Literal["i", "q"]
) -> "memoryview[int]":
    """Return one of the arrays of integers of a kind that lie behind each other."""
    size = (4 if kind == "i" else 8) * length
    return whole[begin + at * size : begin + (at + 1) * size].cast(kind)
