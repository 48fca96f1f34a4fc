"""Where lines go: files that move, writers that fail or get stuck."""

import asyncio
import json
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from arriero.core.record import Record
from arriero.telemetry import sink
from arriero.telemetry.accesslog import AccessLog
from arriero.telemetry.sink import FileSink, Sink, open_sink

INTERVAL_S = 0.001


@contextmanager
def opened(target: object) -> Iterator[Sink]:
    found = open_sink(str(target))
    assert found is not None
    try:
        yield found
    finally:
        found.close()


def test_off_is_no_sink() -> None:
    assert open_sink("off") is None


@pytest.mark.parametrize("target", ["stdout", "stderr"])
def test_standard_streams_are_written_and_left_open(
    target: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with opened(target) as out:
        out.reopen()  # has no meaning here and does no harm
        out.write(b"one\n")
    with opened(target) as out:
        out.write(b"two\n")
    assert getattr(capfd.readouterr(), target[3:]) == "one\ntwo\n"


def test_a_file_is_appended_to_and_closed_to_the_world(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    for text in (b"one\n", b"two\n"):
        with opened(path) as out:
            out.write(text)
    assert path.read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) & 0o027 == 0


def test_a_path_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_sink(str(tmp_path / "missing" / "access.log"))


def test_a_moved_file_is_written_until_reopen(tmp_path: Path) -> None:
    path, moved = tmp_path / "access.log", tmp_path / "access.log.1"
    with opened(path) as out:
        out.write(b"one\n")
        path.rename(moved)
        out.write(b"two\n")
        out.reopen()
        out.write(b"three\n")
    assert moved.read_bytes() == b"one\ntwo\n"
    assert path.read_bytes() == b"three\n"


def test_a_failed_reopen_keeps_the_old_file(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "access.log"
    with opened(path) as out:
        out.write(b"one\n")
        folder.rename(tmp_path / "moved")
        out.reopen()
        with pytest.raises(FileNotFoundError):
            out.write(b"lost\n")
        out.write(b"two\n")
    assert (tmp_path / "moved" / "access.log").read_bytes() == b"one\ntwo\n"


def test_a_closed_file_refuses(tmp_path: Path) -> None:
    with opened(tmp_path / "access.log") as out:
        out.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            out.write(b"late\n")


def test_a_torn_line_is_ended_before_the_next_one() -> None:
    # A pipe that takes no more, as a full disk would: the write breaks off inside a line.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    out = FileSink(writer)
    with pytest.raises(BlockingIOError):
        out.write(b"x" * 10_000_000)
    torn = os.read(reader, 10_000_000)
    out.write(b"next\n")
    assert os.read(reader, 100) == b"\nnext\n"
    out.write(b"last\n")
    assert os.read(reader, 100) == b"last\n"
    assert set(torn) == {ord("x")}
    os.close(reader)
    os.close(writer)


class Writer:
    """What an access log writes to, from its worker thread; the test waits for each batch."""

    def __init__(self, failures: int = 0) -> None:
        self._loop = asyncio.get_running_loop()
        self._failures = failures
        self.batches: asyncio.Queue[bytes] = asyncio.Queue()

    def __call__(self, data: bytes) -> None:
        self._loop.call_soon_threadsafe(self.batches.put_nowait, data)
        if self._failures:
            self._failures -= 1
            raise OSError(28, "No space left on device")

    async def statuses(self) -> list[int]:
        async with asyncio.timeout(10):
            batch = await self.batches.get()
        return [json.loads(line)["status"] for line in batch.splitlines()]


async def test_run_writes_what_waits_again_and_again() -> None:
    writer = Writer()
    log = AccessLog(writer)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(sink.run(log, INTERVAL_S))
        for status in (1, 2, 3):
            log.add(Record(status=status))
            assert await writer.statuses() == [status]
        running.cancel()
    assert writer.batches.empty()


async def test_the_end_writes_the_rest() -> None:
    writer = Writer()
    log = AccessLog(writer)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(sink.run(log, interval_s=3600))
        await asyncio.sleep(0)
        log.add(Record(status=1))
        log.add(Record(status=2))
        running.cancel()
    assert await writer.statuses() == [1, 2]


async def test_writing_happens_off_the_event_loop() -> None:
    threads: list[int] = []
    log = AccessLog(lambda _: threads.append(threading.get_ident()))
    log.add(Record())
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(sink.run(log, interval_s=3600))
        await asyncio.sleep(0)
        running.cancel()
    assert threads != [threading.get_ident()]
    assert len(threads) == 1


async def test_a_failing_writer_costs_lines_and_not_the_gateway(
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer = Writer(failures=1)
    log = AccessLog(writer)
    log.add(Record(status=1))
    log.add(Record(status=2))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(sink.run(log, INTERVAL_S))
        assert await writer.statuses() == [1, 2]
        log.add(Record(status=3))
        assert await writer.statuses() == [3]
        running.cancel()
    assert log.dropped == 2
    (warning,) = caplog.records
    assert vars(warning)["lines"] == 2
    assert "No space left" in vars(warning)["reason"]


async def test_a_stuck_writer_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sink, "FINAL_FLUSH_S", 0.01)
    unstick = threading.Event()

    def write(_: bytes) -> None:
        unstick.wait(30)

    log = AccessLog(write)
    log.add(Record())
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(sink.run(log, interval_s=3600))
        await asyncio.sleep(0)
        running.cancel()
    unstick.set()
    assert [vars(record)["reason"] for record in caplog.records] == ["the writer is stuck"]
