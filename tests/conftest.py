"""What holds for every test: hypothesis profiles, production's event loop, nothing left behind."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import hypothesis
import pytest
import uvloop

# `ci` finds the same thing twice; `dev` looks elsewhere each time; `nightly` looks long.
hypothesis.settings.register_profile(
    "ci",
    derandomize=True,
    max_examples=200,
    deadline=None,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile("dev", max_examples=50, deadline=None, print_blob=True)
hypothesis.settings.register_profile("nightly", max_examples=5000, deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Asyncio tests run on the loop that serves in production."""
    return {"uvloop": uvloop.new_event_loop}


def _children() -> set[int]:
    """Return the process ids of our children; asking whether there are any is one system call."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()
    mine = str(os.getpid())
    found: set[int] = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            # "pid (name) state ppid ...", and a name may hold spaces and brackets.
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # It ended since the listing.
            continue
        if fields[1] == mine:
            found.add(int(process.name))
    return found


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if not thread.daemon}


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a process or a thread; fixtures of wider scope came before it."""
    children, threads = _children(), _threads()
    yield
    left = _children() - children
    assert not left, f"child processes left: {sorted(left)}"
    running = _threads() - threads
    assert not running, f"threads left: {sorted(thread.name for thread in running)}"
