"""`arriero up`: a gateway for this machine with nothing configured, before whatever is here."""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import uvloop

from arriero.app.children import Child, ChildFailed
from arriero.app.clock import SystemClock
from arriero.app.ollama_host import FoundOllama, ask_ollama, ollama_url
from arriero.app.run import Service
from arriero.config.settings import Access, Backend, Config, Log, Model, Route, Secret, Server
from arriero.core.catalog import is_ready
from arriero.embedded.package import MODEL_NAME, require_all

EMBEDDED_COUNT: Final = 2
EMBEDDED_ALIAS: Final = "smollm2"
EMBEDDED_TOKENS_MAX: Final = 512
PORTS_TRIED: Final = 20
PROBE_TIMEOUT_S: Final = 30.0
POLL_S: Final = 0.02

Tell = Callable[[str], None]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asks for; a `port` of None is the usual one or the next free."""

    host: str
    port: int | None
    port_usual: int
    master_key: str
    ollama_host: str | None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway that can be used now."""

    url: str
    master_key: str
    aliases: tuple[str, ...]
    backends: tuple[Backend, ...]


class CannotStart(Exception):
    """There is nothing to serve, or nowhere; `hint` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


async def up(wanted: Wanted, tell: Tell, on_standing: Callable[[Standing], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    `tell` gets a line at each step, `on_standing` is called once when requests can be answered.
    Raises what `run_up` raises, parts of it in exception groups.
    """
    clock = SystemClock()
    try:
        url = ollama_url(wanted.ollama_host)
    except ValueError as error:
        hint = "host, host:port or scheme://host:port"
        raise CannotStart(f"OLLAMA_HOST is no address: {error}", hint) from error
    tell(f"looking for Ollama at {url}")
    found = await asyncio.to_thread(ask_ollama, url, clock)
    server = Server(host=wanted.host, port=choose_port(wanted, tell))
    async with _backends(found, url, tell) as (backends, models):
        config = Config(
            backends=backends,
            models=models,
            server=server,
            access=Access(master_key=Secret(wanted.master_key)),
            log=Log(access="off", level="warning"),
        )
        service = Service(config)
        async with asyncio.TaskGroup() as group:
            announcer = group.create_task(_announce(service, config, clock, tell, on_standing))
            await service.run()
            announcer.cancel()


@asynccontextmanager
async def _backends(
    found: FoundOllama | None, url: str, tell: Tell
) -> AsyncIterator[tuple[tuple[Backend, ...], tuple[Model, ...]]]:
    """Yield what to front: the Ollama that was found, or embedded servers while they are needed."""
    if found is not None:
        tell(f"Ollama {found.version} answers, with {len(found.models)} models")
        yield ollama_fleet(found)
        return
    tell(f"no Ollama answers at {url}: the embedded fleet stands in")
    require_all()
    children = [Child(f"embedded-{number + 1}", tell) for number in range(EMBEDDED_COUNT)]
    async with asyncio.TaskGroup() as group:
        keepers = [group.create_task(child.run()) for child in children]
        tell(f"loading SmolLM2-135M into {EMBEDDED_COUNT} servers (longer the first time)")
        for child in children:
            await child.ready.wait()
            tell(f"{child.name} answers at {child.url}")
        yield embedded_fleet(children)
        for keeper in keepers:
            keeper.cancel()


def ollama_fleet(found: FoundOllama) -> tuple[tuple[Backend, ...], tuple[Model, ...]]:
    """Return one backend and an alias for each of its models, `:latest` left out."""
    if not found.models:
        raise CannotStart(f"the Ollama at {found.url} has no models", "ollama pull smollm2:135m")
    models = tuple(
        Model(name=name.removesuffix(":latest"), routes=(Route(backend="ollama", model=name),))
        for name in sorted(found.models)
    )
    return (Backend(name="ollama", url=found.url),), models


def embedded_fleet(children: Sequence[Child]) -> tuple[tuple[Backend, ...], tuple[Model, ...]]:
    """Return the embedded servers as backends of one alias.

    A small model may not find an end, and one server answers one request at a time.
    """
    backends = tuple(Backend(name=child.name, url=child.url) for child in children)
    routes = tuple(Route(backend=backend.name, model=MODEL_NAME) for backend in backends)
    model = Model(name=EMBEDDED_ALIAS, routes=routes, max_output_tokens=EMBEDDED_TOKENS_MAX)
    return backends, (model,)


async def _announce(
    service: Service,
    config: Config,
    clock: SystemClock,
    tell: Tell,
    on_standing: Callable[[Standing], None],
) -> None:
    """Wait until an alias can be routed, then say so."""
    await service.listening.wait()
    tell("probing the backends")
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            while not is_ready(service.gateway.runtime.fleet, clock.now_s()):  # noqa: ASYNC110 - polled
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        tell("the backends do not answer yet; requests are refused until one does")
    host = config.server.host
    shown = f"[{host}]" if ":" in host else host
    key = config.access.master_key
    on_standing(
        Standing(
            url=f"http://{shown}:{service.port}",
            master_key=key.reveal() if key is not None else "",
            aliases=tuple(model.name for model in config.models),
            backends=config.backends,
        )
    )


def choose_port(wanted: Wanted, tell: Tell) -> int:
    """Return a port to listen on: the one asked for, else the usual one or the next free."""
    if wanted.port is not None:
        if wanted.port and not _free(wanted.host, wanted.port):
            hint = "--port 0 takes any free port; `ss -ltnp` shows who has this one"
            raise CannotStart(f"port {wanted.port} of {wanted.host} is taken", hint)
        return wanted.port
    for port in range(wanted.port_usual, wanted.port_usual + PORTS_TRIED):
        if _free(wanted.host, port):
            if port != wanted.port_usual:
                tell(f"port {wanted.port_usual} is taken: using {port}")
            return port
    last = wanted.port_usual + PORTS_TRIED - 1
    raise CannotStart(f"the ports {wanted.port_usual} to {last} are taken", "give one with --port")


def _free(host: str, port: int) -> bool:
    """Return whether a listener could have the port now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            reason = error.strerror or str(error)
            raise CannotStart(f"cannot listen on {host}: {reason}", "--host 127.0.0.1") from error
    return True


def run_up(wanted: Wanted, tell: Tell, on_standing: Callable[[Standing], None]) -> None:
    """Run `up` on an event loop of its own.

    Raises CannotStart, or ExtraMissing when the embedded fleet is needed and not installed.
    """
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(up(wanted, tell, on_standing))
    except ExceptionGroup as group:
        if group.subgroup(ChildFailed) is None:
            raise
        hint = "its own words are above"
        raise CannotStart("an embedded server ended before it was ready", hint) from group


def ollama_host_given() -> str | None:
    """Return `OLLAMA_HOST` of the environment."""
    return os.environ.get("OLLAMA_HOST")
