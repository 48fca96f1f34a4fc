"""One lab at a time: its addresses are the same each time, so a second one has to wait."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lab import paths
from lab.problems import CannotRun

WAIT_S = 1200.0


@contextmanager
def only_one(wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold the lab's lock, which the kernel frees with the process however that ends.

    Raises:
        CannotRun: Another lab runs for longer than one wants to wait.
    """
    paths.cache().mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_s
    with (paths.cache() / "lock").open("w", encoding="utf-8") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise CannotRun("another lab runs on this machine") from None
                time.sleep(0.5)
        yield
