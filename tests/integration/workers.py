"""A gateway of several workers as processes, and what is asked of it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.cli.processes import KEY

PATIENCE_S = 30.0
CHAT = "/v1/chat/completions"


class Workers:
    """A running `arriero serve --workers N`, with all that it told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._told: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.wait_for("all workers ready")
        self.port: int = self.wait_for("listening")[0]["port"]

    def _read(self) -> None:
        assert self._process.stderr
        for line in self._process.stderr:
            with self._news:
                self._told.append(json.loads(line))
                self._news.notify_all()

    def wait_for(self, event: str, times: int = 1) -> list[dict[str, Any]]:
        """Return the first events of a name, as soon as there are so many."""

        def found() -> list[dict[str, Any]]:
            return [told for told in self._told if told["event"] == event]

        with self._news:
            assert self._news.wait_for(lambda: len(found()) >= times, PATIENCE_S), self._told
            return found()

    def pid(self, worker: int) -> int:
        """Return the process of a worker's present life."""
        with self._news:
            lives = [told for told in self._told if told["event"] == "worker started"]
        return [int(life["pid"]) for life in lives if life["worker"] == worker][-1]

    def kill(self, worker: int) -> None:
        """End a worker as the kernel does when memory is short."""
        os.kill(self.pid(worker), signal.SIGKILL)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process that was started."""
        self._process.send_signal(number)

    def end(self) -> int:
        """Return the exit code, once all is over."""
        code = self._process.wait(PATIENCE_S)
        self._reader.join()
        return code

    def get(self, path: str) -> bytes:
        """Return what one of the workers answers."""
        address = f"http://127.0.0.1:{self.port}{path}"
        asked = Request(address, headers={"Authorization": f"Bearer {KEY}"})
        with urlopen(asked, timeout=PATIENCE_S) as answer:
            body: bytes = answer.read()
            return body


class Line:
    """A connection, which stays with the worker that took it."""

    def __init__(self, port: int, key: str = KEY) -> None:
        self._port = port
        self._key = key
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, path: str, body: object = None) -> tuple[int, Any]:
        """Return status and body of an answer that is not a stream."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        content = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{'POST' if content else 'GET'} {path} HTTP/1.1\r\nHost: gateway\r\n"
            f"Authorization: Bearer {self._key}\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        writer.write(head.encode() + content)
        async with asyncio.timeout(PATIENCE_S):
            told = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(told.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            answer = await reader.readexactly(length)
        return int(told.split()[1]), json.loads(answer)

    async def chat(self, text: str = "Say it in 3 words") -> tuple[int, Any]:
        """Ask the model."""
        messages = [{"role": "user", "content": text}]
        return await self.ask(CHAT, {"model": "llama", "messages": messages})

    def hang_up(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@contextmanager
def lines(port: int, count: int, key: str = KEY) -> Iterator[list[Line]]:
    """So many connections, closed when the block ends."""
    made = [Line(port, key) for _ in range(count)]
    try:
        yield made
    finally:
        for line in made:
            line.hang_up()


async def burst(port: int, count: int, key: str = KEY) -> list[tuple[int, Any]]:
    """Ask so many at once, each on a connection of its own, which the kernel divides."""

    async def one() -> tuple[int, Any]:
        with lines(port, 1, key) as (line,):
            return await line.chat()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one()) for _ in range(count)]
    return [task.result() for task in tasks]


@contextmanager
def workers(config: Path, *options: str, count: int = 2) -> Iterator[Workers]:
    """Run a gateway until the block ends."""
    command = [sys.executable, "-m", "arriero", "serve", "--config", str(config), "--port", "0"]
    command += ["--workers", str(count), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            running = Workers(process)
            yield running
        finally:
            process.terminate()
        assert running.end() == 0
