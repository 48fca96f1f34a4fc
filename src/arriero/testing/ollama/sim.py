"""One simulated Ollama host, to be used in tests or run as a process."""

from collections.abc import Callable, Iterable
from typing import Any, Self

from arriero.testing.faults import Fault
from arriero.testing.host import SimHost
from arriero.testing.http import Reply, Request
from arriero.testing.ollama import routes
from arriero.testing.ollama.models import SimModel
from arriero.testing.ollama.settings import Settings
from arriero.testing.ollama.state import Host


class OllamaSim(SimHost):
    """An Ollama host on a socket of its own for the length of an `async with` block.

    `settings` are the fields of `Settings`, by name. Port 0 takes a free one; `url` has it.
    """

    def __init__(
        self,
        models: Iterable[SimModel] = (),
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        **settings: Any,
    ) -> None:
        self.settings = Settings(**settings)
        super().__init__(host, port, self.settings.seed)
        self._state = Host(self.settings, self.stats)
        for model in models:
            self.install(model)

    @property
    def models(self) -> list[SimModel]:
        """What is installed."""
        return list(self._state.models.values())

    @property
    def loaded(self) -> list[str]:
        """The names of the loaded models."""
        return [runner.model.ref.short for runner in self._state.scheduler.loaded()]

    def install(self, model: SimModel) -> Self:
        """Put a model on the host, as a pull does; one of the same name is replaced."""
        self._state.install(model)
        return self

    def publish(self, model: SimModel, on_pull: Callable[[SimModel], None] | None = None) -> Self:
        """Put a model into the registry, from where `/api/pull` brings it onto the host."""
        self._state.registry[model.ref.key] = model
        self._state.on_pull = on_pull or self._state.on_pull
        return self

    def remove(self, name: str) -> None:
        """Take a model off the host; KeyError when it is not there."""
        self._state.remove(name)

    def hold(self, *names: str) -> Self:
        """Have installed models in memory, as after somebody's requests; a restart loses them."""
        for name in names:
            self._state.hold(name)
        return self

    async def _answer(self, request: Request, reply: Reply, fault: Fault | None) -> None:
        await routes.answer(self._state, request, reply, fault)

    def _refuse_with(self, fault: Fault, request: Request, reply: Reply) -> None:
        routes.refuse_with(fault, request, reply)

    def _generates(self, path: str) -> bool:
        return path in routes.INFERENCE

    def _forget(self) -> None:
        self._state.restart()
