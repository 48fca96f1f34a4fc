"""What every simulated server has: a socket, a record of requests, counts, faults, a way to die."""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from arriero.testing import control
from arriero.testing.faults import BEFORE, Fault, FaultBook, Kind
from arriero.testing.http import HttpServer, Reply, Request
from arriero.testing.stats import Stats

REQUESTS_KEPT: Final = 10_000


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the decoded body."""
        return msgspec.json.decode(self.body)


class SimHost(ABC):
    """A simulated server on a socket of its own for the length of an `async with` block.

    `requests` remembers the last of them, without those to `/_sim/`.
    """

    def __init__(self, host: str, port: int, seed: int) -> None:
        self.faults = FaultBook(seed)
        self.stats = Stats()
        self.requests: deque[Seen] = deque(maxlen=REQUESTS_KEPT)
        self._server = HttpServer(self._handle, host, port)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return self._server.url

    @property
    def port(self) -> int:
        """The port, known once the block was entered."""
        return self._server.port

    def refuse(self) -> None:
        """Refuse new connections; those that stand go on."""
        self._server.stop_listening()

    async def accept(self) -> None:
        """Accept connections again, on the same port."""
        await self._server.listen()

    def kill(self, spare: Reply | None = None) -> None:
        """Die: reset every connection, refuse new ones, forget what was loaded and cached.

        The connection of `spare`, on which this was asked for, is left alone.
        """
        self._server.stop_listening()
        self._server.reset_all(spare)
        self._forget()

    async def restart(self) -> None:
        """Die and come back on the same port."""
        self.kill()
        await self._server.listen()

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._server.__aexit__(kind, error, trace)
        self._forget()

    @abstractmethod
    async def _answer(self, request: Request, reply: Reply, fault: Fault | None) -> None:
        """Answer one request, with a fault that strikes in the middle of the answer or none."""

    @abstractmethod
    def _refuse_with(self, fault: Fault, request: Request, reply: Reply) -> None:
        """Answer with the HTTP error of a STATUS fault."""

    @abstractmethod
    def _generates(self, path: str) -> bool:
        """Say whether requests to a path generate, and so can meet faults in mid-answer."""

    @abstractmethod
    def _forget(self) -> None:
        """Lose what a process has in memory."""

    async def _handle(self, request: Request, reply: Reply) -> None:
        if request.path.startswith(control.PREFIX):
            await self._control(request, reply)
            return
        self.requests.append(Seen(request.method, request.path, request.headers, request.body))
        stats = self.stats
        stats.requests += 1
        stats.endpoints[f"{request.method} {request.path}"] += 1
        with stats.in_flight:
            try:
                await self._meet(request, reply)
            except asyncio.CancelledError:
                stats.cancelled += not reply.finished
                raise

    async def _meet(self, request: Request, reply: Reply) -> None:
        model = named_model(request.body)
        fault = self.faults.take(request.path, model, inference=self._generates(request.path))
        if fault is not None:
            self.stats.faults[fault.kind] += 1
        if fault is not None and fault.kind in BEFORE:
            await self._strike_first(fault, request, reply)
        else:
            await self._answer(request, reply, fault)

    async def _strike_first(self, fault: Fault, request: Request, reply: Reply) -> None:
        match fault.kind:
            case Kind.HANG:
                await asyncio.Event().wait()
            case Kind.GARBAGE:
                reply.raw(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
                reply.close()
            case Kind.STATUS:
                self._refuse_with(fault, request, reply)
            case Kind.REFUSE:
                self.refuse()
                if fault.for_s:
                    self._server.run(self._accept_after(fault.for_s))
                reply.reset()
            case _:
                reply.reset()

    async def _accept_after(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        await self.accept()

    async def _control(self, request: Request, reply: Reply) -> None:
        match request.path.removeprefix(control.PREFIX):
            case "faults":
                control.faults(self.faults, request, reply)
            case "stats":
                control.stats(self.stats, reply)
            case "requests":
                control.requests([msgspec.to_builtins(seen) for seen in self.requests], reply)
            case "restart":
                self.kill(spare=reply)
                await self.accept()
                reply.json(200, {})
            case _:
                reply.text(404, "404 page not found")


class _Named(msgspec.Struct):
    model: str = ""


def named_model(body: bytes) -> str:
    """Return the model a body names, "" when it names none or cannot be read."""
    try:
        return msgspec.json.decode(body, type=_Named).model
    except msgspec.DecodeError:
        return ""
