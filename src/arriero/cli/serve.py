"""`arriero serve`: the service."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import typer

from arriero.app.configfile import read_config
from arriero.app.run import run
from arriero.app.sockets import SocketsUnusable
from arriero.app.tls import TlsUnusable
from arriero.cli.access import fail
from arriero.config.problems import ConfigError
from arriero.config.settings import Config
from arriero.store.port import StoreError


def serve(
    config: Path = typer.Option(..., "--config", "-c", help="The configuration file."),
    host: str | None = typer.Option(None, help="Listen here instead of server.host."),
    port: int | None = typer.Option(None, min=0, max=65535, help="... and on this port."),
    state: Path | None = typer.Option(
        None, "--state-directory", envvar="STATE_DIRECTORY", help="Where keys and usage are kept."
    ),
) -> None:
    """Serve a configuration until SIGTERM; SIGHUP reads it again."""

    def load() -> Config:
        loaded = read_config(config).config
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
    _run(first, load, state)


def _run(first: Config, load: Callable[[], Config], state: Path | None) -> None:
    """Serve, and say in words why it cannot be done."""
    try:
        run(first, load, state)
    except TlsUnusable as error:
        fail(f"cannot use the certificate: {error}", "server.tls names two PEM files", code=1)
    except SocketsUnusable as error:
        hint = "the unit's .socket has one ListenStream=; systemctl show names both"
        fail(f"cannot serve the sockets that systemd handed over: {error}", hint, code=1)
    except StoreError as error:
        fail(f"cannot use the store: {error}", error.hint, code=1)
    except OSError as error:
        if error.filename is not None:  # only the access log is opened by its name
            fail(f"cannot write the access log: {error}", "log.access, or its folder", code=1)
        where = f"{first.server.host}:{first.server.port}"
        fail(f"cannot listen on {where}: {error.strerror or error}", "ss -ltnp, or --port", code=1)
