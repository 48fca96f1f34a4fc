"""Simulated Ollama hosts as processes of their own, and what is done to them."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection

from arriero.testing.ollama import SimModel
from benchmarks.chaos.schedule import Event, Kind
from benchmarks.ports import ask, free_ports

MODEL = SimModel("llama3:8b")
END_TIMEOUT_S = 10.0


class Backend:
    """One host that can be killed and started again on its port."""

    def __init__(self, port: int, tokens_per_s: float, slots: int) -> None:
        self.port = port
        self._command = [
            *(sys.executable, "-m", "arriero.testing.ollama", "--port", str(port)),
            *("--model", f"{MODEL.name},decode_tps={tokens_per_s}"),
            *("--num-parallel", str(slots)),
        ]
        self._process: subprocess.Popen[str] | None = None
        # One blow after the other: on a busy machine a start takes longer than was planned.
        self.struck = asyncio.Lock()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and return when it listens."""
        # One that was stopped complains of every connection that it lost meanwhile.
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise RuntimeError(f"the simulation on port {self.port} did not start")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its process, which we started."""
        assert self._process is not None
        self._process.send_signal(number)

    def end(self) -> None:
        """Be sure that it is gone, stopped or not."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait(END_TIMEOUT_S)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None


@contextmanager
def standing(count: int, tokens_per_s: float, slots: int) -> Iterator[list[Backend]]:
    """Run hosts while the block runs."""
    backends = [Backend(port, tokens_per_s, slots) for port in free_ports(count)]
    try:
        for backend in backends:
            backend.start()
        yield backends
    finally:
        for backend in backends:
            backend.end()


async def strike(backend: Backend, event: Event) -> None:
    """Let the event happen, and be over."""
    async with backend.struck:
        await _strike(backend, event)


async def _strike(backend: Backend, event: Event) -> None:
    match event.kind:
        case Kind.KILL:
            await asyncio.to_thread(backend.end)
            await asyncio.sleep(event.for_s)
            await asyncio.to_thread(backend.start)
        case Kind.HANG:
            backend.signal(signal.SIGSTOP)
            await asyncio.sleep(event.for_s)
            backend.signal(signal.SIGCONT)
        case Kind.DROP:
            await asyncio.to_thread(ask, backend.port, "/_sim/restart", "{}")
        case Kind.BREAK | Kind.FAIL:
            await _show(backend, event)


async def _show(backend: Backend, event: Event) -> None:
    await asyncio.to_thread(ask, backend.port, "/_sim/faults", json.dumps(event.fault))
    await asyncio.sleep(event.for_s)
    await asyncio.to_thread(_forgive, backend.port)


def _forgive(port: int) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("DELETE", "/_sim/faults")
    connection.getresponse().read()
    connection.close()
