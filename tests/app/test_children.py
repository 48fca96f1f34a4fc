import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from arriero.app import children
from arriero.app.children import Child, ChildFailed

# Says it is ready at the port it was given, or at 777 when it may choose; then it waits.
STEADY = """
import signal, sys, time
port = sys.argv[sys.argv.index("--port") + 1]
print("some words", flush=True)
print(f"ready http://h:{port if port != '0' else 777}", flush=True)
time.sleep(60)
"""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + STEADY


def python(program: str) -> tuple[str, ...]:
    return (sys.executable, "-c", program)


@asynccontextmanager
async def kept(child: Child) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        keeper = group.create_task(child.run())
        await child.ready.wait()
        yield
        keeper.cancel()


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "BACKOFF_S", 0.01)


class Told:
    """What a child's owner hears, and a way to wait for it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.more = asyncio.Event()

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        self.more.set()


def silent(_line: str) -> None:
    """Nobody listens."""


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not done():  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.005)


async def test_it_is_ready_when_it_says_so_and_ends_with_its_keeper() -> None:
    child = Child("one", silent, python(STEADY))
    async with kept(child):
        assert child.url == "http://h:777"
        pid = child.pid
        assert pid is not None
        assert os.getsid(pid) == pid, "Ctrl-C at the terminal must not reach it"
    assert gone(pid)


async def test_a_child_that_dies_is_started_again_on_its_port(quick: None) -> None:
    told = Told()
    child = Child("one", told, python(STEADY))
    async with kept(child):
        for life in (1, 2):
            pid = child.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until(lambda: child.lives > life)  # noqa: B023 - awaited within the round
            assert child.pid != pid
            assert child.url == "http://h:777"
    assert told.lines == [
        "one ended; starting it again in 0.01 s",
        "one ended; starting it again in 0.02 s",
    ]


async def test_one_that_never_becomes_ready_is_a_failure() -> None:
    child = Child("one", silent, python("raise SystemExit(3)"))
    with pytest.raises(ChildFailed, match="one"):
        await child.run()


async def test_one_that_will_not_end_is_made_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "TERMINATE_TIMEOUT_S", 0.05)
    child = Child("one", silent, python(STUBBORN))
    async with kept(child):
        pid = child.pid
    assert pid is not None
    assert gone(pid)


async def test_cancelling_while_it_loads_leaves_nothing_behind() -> None:
    child = Child("one", silent, python("import time; time.sleep(60)"))
    keeper = asyncio.create_task(child.run())
    await until(lambda: child.lives == 1)
    pid = child.pid
    keeper.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeper
    assert pid is not None
    assert gone(pid)
