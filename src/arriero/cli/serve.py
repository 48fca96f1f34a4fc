"""`arriero serve`: the service."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import typer

from arriero.app.configfile import read_config
from arriero.app.run import run
from arriero.app.sockets import SocketsUnusable
from arriero.app.tls import TlsUnusable
from arriero.app.turns import WORKERS_MAX
from arriero.app.worker import VARIABLE
from arriero.app.workers import supervise, unshared
from arriero.cli.access import fail
from arriero.config.problems import ConfigError
from arriero.config.settings import Config
from arriero.core.tally import TallyFull
from arriero.peers.port import PeersUnusable
from arriero.store.port import StoreError


def serve(
    config: Path = typer.Option(..., "--config", "-c", help="The configuration file."),
    host: str | None = typer.Option(None, help="Listen here instead of server.host."),
    port: int | None = typer.Option(None, min=0, max=65535, help="... and on this port."),
    state: Path | None = typer.Option(
        None, "--state-directory", envvar="STATE_DIRECTORY", help="Where keys and usage are kept."
    ),
    workers: int = typer.Option(
        1, min=1, max=WORKERS_MAX, help="Processes to serve with, for a machine of several cores."
    ),
) -> None:
    """Serve a configuration until SIGTERM; SIGHUP reads it again."""

    def load() -> Config:
        loaded = read_config(config).config
        if workers > 1 and (problems := unshared(loaded)):
            raise ConfigError(str(config), problems)
        changes = {"host": host, "port": port}
        given = {name: value for name, value in changes.items() if value is not None}
        return msgspec.structs.replace(
            loaded, server=msgspec.structs.replace(loaded.server, **given)
        )

    try:
        first = load()
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except OSError as error:
        fail(f"{config}: {error.strerror or error}", f"arriero check {config}", code=2)
    if workers == 1 or VARIABLE in os.environ:
        _run(first, load, state)
    else:
        _supervise(first, load, workers)


def _supervise(first: Config, load: Callable[[], Config], workers: int) -> None:
    """Serve with several processes, each of which is this one's command once more."""
    with _told(first):
        code = supervise(first, load, workers, sys.argv[1:])
    raise typer.Exit(code)


def _run(first: Config, load: Callable[[], Config], state: Path | None) -> None:
    with _told(first):
        run(first, load, state)


@contextmanager
def _told(first: Config) -> Iterator[None]:
    """Say in words why it cannot be done."""
    try:
        yield
    except TlsUnusable as error:
        fail(f"cannot use the certificate: {error}", "server.tls names two PEM files", code=1)
    except SocketsUnusable as error:
        hint = "the unit's .socket has one ListenStream=; systemctl show names both"
        fail(f"cannot serve the sockets that systemd handed over: {error}", hint, code=1)
    except StoreError as error:
        fail(f"cannot use the store: {error}", error.hint, code=1)
    except TallyFull as error:
        fail(f"cannot serve with several workers: {error}", "--workers 1", code=1)
    except PeersUnusable as error:
        fail(f"cannot meet other gateways: {error}", error.hint, code=1)
    except OSError as error:
        if error.filename is not None:  # only the access log is opened by its name
            fail(f"cannot write the access log: {error}", "log.access, or its folder", code=1)
        where = f"{first.server.host}:{first.server.port}"
        fail(f"cannot listen on {where}: {error.strerror or error}", "ss -ltnp, or --port", code=1)
