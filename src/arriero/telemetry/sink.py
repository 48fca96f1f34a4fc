"""Where the access log goes: a file descriptor, opened again when logrotate asks."""

import asyncio
import logging
import os
import threading
from typing import Protocol

from arriero.telemetry.accesslog import AccessLog

_log = logging.getLogger("arriero.telemetry")

FINAL_FLUSH_S = 5.0  # a stuck reader of our stdout must not hold up the end for longer

STANDARD = {"stdout": 1, "stderr": 2}


class Sink(Protocol):
    """What takes the lines."""

    def write(self, data: bytes) -> None:
        """Write all of `data`. Raises OSError."""
        ...

    def reopen(self) -> None:
        """Let the next write go to a new file; may be called from any thread."""
        ...

    def close(self) -> None:
        """Give the descriptor back; a standard stream stays open."""
        ...


def open_sink(target: str) -> Sink | None:
    """Return the sink for `stdout`, `stderr`, `off` (None) or a path. Raises OSError."""
    if target == "off":
        return None
    if target in STANDARD:
        return FileSink(STANDARD[target])
    return FileSink(_open(target), path=target)


def _open(path: str) -> int:
    # The log tells who asks for what: the group may read it, the world may not.
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


class FileSink:
    """Appends whole batches to a descriptor, without a buffer of its own."""

    __slots__ = ("_fd", "_lock", "_path", "_reopen_wanted", "_torn")

    def __init__(self, fd: int, path: str | None = None) -> None:
        self._fd = fd
        self._path = path  # None: a standard stream, never opened again or closed
        self._lock = threading.Lock()
        self._reopen_wanted = False
        self._torn = False  # the last write ended inside a line

    def write(self, data: bytes) -> None:
        """Write all of `data`. Raises OSError, after which the next write begins a new line."""
        with self._lock:
            self._reopen_if_wanted()
            view = memoryview(b"\n" + data if self._torn else data)
            while view:
                self._torn = True
                view = view[os.write(self._fd, view) :]
            self._torn = False

    def reopen(self) -> None:
        """Let the next write open the path anew, for logrotate."""
        self._reopen_wanted = self._path is not None

    def close(self) -> None:
        """Close the file; a standard stream stays open."""
        with self._lock:
            if self._path is not None and self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _reopen_if_wanted(self) -> None:
        if self._reopen_wanted and self._path is not None:
            self._reopen_wanted = False
            new = _open(self._path)  # when this fails, the old file is still written next time
            os.close(self._fd)
            self._fd = new
            self._torn = False


async def run(log: AccessLog, interval_s: float) -> None:
    """Write what waits every `interval_s`, until cancelled; then write the rest.

    The writing happens in a worker thread: a full disk or a paused journal stops no stream.
    """
    try:
        while True:
            await asyncio.sleep(interval_s)
            await _flush(log)
    finally:
        await _flush_at_the_end(log)


async def _flush_at_the_end(log: AccessLog) -> None:
    """Write the rest while the task is being cancelled: the cancellation is delivered only once."""
    try:
        async with asyncio.timeout(FINAL_FLUSH_S):
            await _flush(log)
    except TimeoutError:
        _log.warning("access log not written", extra={"reason": "the writer is stuck"})


async def _flush(log: AccessLog) -> None:
    lines = log.take()
    if not lines:
        return
    try:
        await asyncio.to_thread(log.write_out, lines)
    except OSError as error:
        lost = lines.count(b"\n")
        log.dropped += lost
        _log.warning(
            "access log not written",
            extra={"reason": str(error), "lines": lost, "dropped": log.dropped},
        )
