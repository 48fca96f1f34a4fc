"""What the handlers of one simulated host share."""

from collections.abc import Callable, Mapping
from typing import Any

from arriero.testing.clock import LoopClock, rfc3339
from arriero.testing.ollama import options as option
from arriero.testing.ollama.engine import Engine
from arriero.testing.ollama.models import SimModel
from arriero.testing.ollama.names import parse
from arriero.testing.ollama.scheduler import Scheduler
from arriero.testing.ollama.settings import Settings
from arriero.testing.stats import Stats


class Refused(Exception):
    """The request is answered with an HTTP error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def load_options(
    host: "Host", model: SimModel, options: Mapping[str, Any], *, shift: bool
) -> dict[str, Any]:
    """Return the options by which a model is loaded; others mean that it is loaded anew."""
    loaded = {name: options[name] for name in option.LOAD_TIME}
    loaded["num_ctx"] = option.num_ctx(
        options["num_ctx"],
        host.settings.context_length,
        model.context_length,
        vision=model.can("vision"),
    )
    # Whether the context may shift is decided when the runner starts, so it reloads too.
    loaded["shift"] = shift
    return loaded


class Host:
    """One host: settings and installed models outlive a restart, the rest is `restart`'s."""

    def __init__(self, settings: Settings, stats: Stats) -> None:
        self.settings = settings
        self.clock = LoopClock()
        self.stats = stats
        self.models: dict[str, SimModel] = {}
        self.registry: dict[str, SimModel] = {}
        self.on_pull: Callable[[SimModel], None] = lambda _model: None
        self.installed_unix_s = self.clock.unix_s()
        self.scheduler = Scheduler(settings, stats)
        self.engine = Engine(self.scheduler.expire_all)

    def install(self, model: SimModel) -> None:
        """Put a model on the host, as a pull does; one of the same name is replaced."""
        self.models[model.ref.key] = model

    def pull(self, model: SimModel) -> None:
        """Install a model of the registry, and tell whoever keeps count of them."""
        self.install(model)
        self.on_pull(model)

    def remove(self, name: str) -> None:
        """Take a model off the host; its runner, if any, goes with it."""
        model = self.models.pop(parse(name).key)
        self.scheduler.expire(model)

    def hold(self, name: str) -> None:
        """Have an installed model in memory, as after somebody's request."""
        model = self.models[parse(name).key]
        options = option.merged(model.parameters)
        self.scheduler.hold(model, load_options(self, model, options, shift=True))

    def restart(self) -> None:
        """Begin again with nothing loaded."""
        self.scheduler.shutdown()
        self.scheduler = Scheduler(self.settings, self.stats)
        self.engine = Engine(self.scheduler.expire_all)

    def find(self, name: str) -> SimModel | None:
        """Return an installed model by a valid name."""
        return self.models.get(parse(name).key)

    def created_at(self) -> dict[str, Any]:
        """Return the timestamp field of an answer."""
        return {"created_at": rfc3339(self.clock.unix_s())}
