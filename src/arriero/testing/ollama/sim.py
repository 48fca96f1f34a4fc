"""One simulated Ollama host, to be used in tests or run as a process."""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import msgspec

from arriero.testing.faults import Fault, FaultBook, Kind
from arriero.testing.http import HttpServer, Reply, Request
from arriero.testing.ollama import control, routes
from arriero.testing.ollama.models import SimModel
from arriero.testing.ollama.settings import Settings
from arriero.testing.ollama.state import Host
from arriero.testing.ollama.stats import Stats


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:  # a body is any JSON
        """Return the decoded body."""
        return msgspec.json.decode(self.body)


class OllamaSim:
    """A host on a socket of its own for the length of an `async with` block.

    `settings` are the fields of `Settings`, by name. Port 0 takes a free one; `url` has it.
    """

    def __init__(
        self,
        models: Iterable[SimModel] = (),
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        **settings: Any,  # checked by Settings
    ) -> None:
        self._models = list(models)
        self.settings = Settings(**settings)
        self.state = Host(self.settings)
        self.requests: deque[Seen] = deque(maxlen=self.settings.requests_kept)
        self._server = HttpServer(self._handle, host, port)

    def __repr__(self) -> str:
        return f"<OllamaSim {self.url} {[model.name for model in self.models]}>"

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return self._server.url

    @property
    def port(self) -> int:
        """The port, known once the block was entered."""
        return self._server.port

    @property
    def faults(self) -> FaultBook:
        """What goes wrong here."""
        return self.state.faults

    @property
    def stats(self) -> Stats:
        """What was counted since the start."""
        return self.state.stats

    @property
    def models(self) -> list[SimModel]:
        """What is installed."""
        return list(self.state.models.values())

    @property
    def loaded(self) -> list[str]:
        """The names of the loaded models."""
        return [runner.model.ref.short for runner in self.state.scheduler.loaded()]

    def install(self, model: SimModel) -> None:
        """Put a model on the host, as a pull does."""
        self.state.install(model)

    def remove(self, name: str) -> None:
        """Take a model off the host; KeyError when it is not there."""
        self.state.remove(name)

    def refuse(self) -> None:
        """Refuse new connections; those that stand go on."""
        self._server.stop_listening()

    async def accept(self) -> None:
        """Accept connections again, on the same port."""
        await self._server.listen()

    def kill(self) -> None:
        """Die: reset every connection, refuse new ones, forget what was loaded."""
        self._server.stop_listening()
        self._server.reset_all()
        self.state.scheduler.shutdown()
        self.state.restart()

    async def restart(self) -> None:
        """Die and come back with nothing loaded."""
        self.kill()
        await self._server.listen()

    async def __aenter__(self) -> Self:
        for model in self._models:
            self.install(model)
        await self._server.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._server.__aexit__(kind, error, trace)
        self.state.scheduler.shutdown()

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
                await self._answer(request, reply)
            except asyncio.CancelledError:
                stats.cancelled += not reply.finished
                raise

    async def _answer(self, request: Request, reply: Reply) -> None:
        model = routes.named_model(request.body)
        inference = request.path in routes.INFERENCE
        fault = self.faults.take(request.path, model, inference=inference)
        if fault is not None:
            self.stats.faults[fault.kind] += 1
            if routes.comes_first(fault):
                await self._strike_first(fault, model, reply)
                return
        await routes.answer(self.state, request, reply, fault)

    async def _strike_first(self, fault: Fault, model: str, reply: Reply) -> None:
        if fault.kind is not Kind.REFUSE:
            await routes.strike_first(fault, model, reply)
            return
        self.refuse()
        if fault.for_s:
            self._server.run(self._accept_after(fault.for_s))
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
                reply.json(200, {})
                self._server.run(self.restart())
            case _:
                reply.text(404, "404 page not found")
