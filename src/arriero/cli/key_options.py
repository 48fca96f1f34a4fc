"""The options of `arriero keys`, `usage` and `store`: whom to ask, and what a key is to be."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import msgspec
import typer

from arriero.app.client import AddressError, Endpoint
from arriero.app.clock import SystemClock
from arriero.app.configfile import read_config
from arriero.app.keeper import STORE_FILE
from arriero.app.keydesk import KeyDesk, OnTheStore, Refused, ThroughService
from arriero.cli.access import GATEWAY_URL, KeyFile, KeyValue, UrlOption, fail, key_from
from arriero.cli.option_group import OptionGroup
from arriero.config.problems import ConfigError
from arriero.config.settings import Config, Secret
from arriero.config.settings import Store as StoreSettings
from arriero.store.opening import sqlite_path
from arriero.store.port import StoreError

SECRET_BYTES_MAX: Final = 4_096
_DOWN_HINT: Final = "is it running? --state-directory or --config asks its store instead"

StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="ARRIERO_STORE",
        metavar="URL",
        help="Work on this store and not through the service. The variable keeps a password "
        "out of ps.",
    ),
]
StateDirectory = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help=f"The same, on the {STORE_FILE} in this folder."),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="The same, on the store.url in this file."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print what the API answers.")]
KeyName = Annotated[
    str,
    typer.Argument(
        metavar="KEY", help="A key by its alias, its id or, as - on standard input, its secret."
    ),
]
KeyNames = Annotated[
    list[str],
    typer.Argument(metavar="KEY", help="Keys by alias, id or, as - on standard input, secret."),
]


class Where(OptionGroup, frozen=True, kw_only=True):
    """Whom to ask, as the command line says."""

    url: UrlOption = GATEWAY_URL
    key: KeyValue = None
    key_file: KeyFile = None
    store: StoreUrl = None
    state_directory: StateDirectory = None
    config: ConfigFile = None

    @property
    def is_store(self) -> bool:
        """Whether the store itself is to be worked on."""
        return bool(self.store or self.state_directory or self.config)


@contextmanager
def desk(where: Where) -> Iterator[KeyDesk]:
    """Give somebody to ask, and end in words where that is refused."""
    try:
        if where.is_store:
            config = config_of(where.config)
            url = store_url(where, config)
            master = config.access.master_key if config is not None else None
            settings = StoreSettings(url=Secret(url))
            with OnTheStore(settings, None, master.reveal() if master else None) as direct:
                yield direct
        else:
            yield through_service(where)
    except Refused as error:
        end(error)
    except StoreError as error:
        fail(f"the store: {error}", error.hint or "arriero store migrate")


def through_service(where: Where) -> ThroughService:
    """Return the service to ask, at its address and with its key."""
    try:
        endpoint = Endpoint(where.url, SystemClock())
    except AddressError as wrong:
        fail(str(wrong), "--url http://HOST:4000", code=2)
    return ThroughService(endpoint, key_from(where.key, where.key_file))


def end(error: Refused) -> NoReturn:
    """Say what the API refused: 1 a problem with keys, 2 wrong use, 3 cannot tell."""
    if error.status == 0:
        fail(error.message, error.hint or _DOWN_HINT)
    if error.status in (401, 403):
        fail(error.message, error.hint or "an administrator's key or the master key may")
    if error.status == 404 or error.code == "key_exists":  # noqa: PLR2004 - not found
        fail(error.message, error.hint or "arriero keys list", code=1)
    code = 2 if error.status == 400 else 3  # noqa: PLR2004 - a bad request
    fail(error.message, error.hint or "arriero keys --help", code=code)


def config_of(file: Path | None) -> Config | None:
    """Return the configuration in a file, None without one."""
    if file is None:
        return None
    try:
        return read_config(file).config
    except (ConfigError, OSError) as wrong:
        fail(f"{file}: {wrong}", f"arriero check {file}", code=2)


def store_url(where: Where, config: Config | None, *, must_exist: bool = True) -> str:
    """Return the store's address: of --store, of the configuration, or in the state directory."""
    configured = config.store.url if config is not None else None
    if where.store:
        url = where.store
    elif configured is not None:
        url = configured.reveal()
    elif where.state_directory is not None:
        url = f"sqlite:///{where.state_directory.absolute() / STORE_FILE}"
    else:
        fail("the configuration has no store.url", "--state-directory DIR", code=2)
    if must_exist and url.startswith("sqlite:") and not sqlite_path(url).exists():
        # Made here it would belong to whoever calls, and the service could not write to it.
        hint = "the service makes it when it starts; arriero store migrate, as its user, too"
        fail(f"{sqlite_path(url)} is not there", hint, code=2)
    return url


def named(key: str) -> str:
    """Return how a key is called; `-` reads it from standard input, where no `ps` sees it."""
    return secret_from_stdin() if key == "-" else key


def secret_from_stdin() -> str:
    """Return the first line of standard input."""
    text = sys.stdin.readline(SECRET_BYTES_MAX).strip()
    if not text:
        fail("standard input holds no key", "printf %s sk-... | arriero keys ...", code=2)
    return text


def table(rows: list[dict[str, Any]], columns: dict[str, str]) -> None:
    """Print rows as a table; `columns` are headings and the names of fields."""
    from rich.console import Console  # noqa: PLC0415 - only for people; 60 ms
    from rich.markup import escape  # noqa: PLC0415 - the same
    from rich.table import Table  # noqa: PLC0415 - the same

    console = Console()
    if not console.is_terminal:
        console.width = 200
    shown = Table(box=None, pad_edge=False)
    for heading in columns:
        shown.add_column(heading)
    for row in rows:
        shown.add_row(*(escape(_cell(row.get(name))) for name in columns.values()))
    console.print(shown)


def _cell(value: object) -> str:
    if value is None or value in ("", []):
        return "-"
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def print_json(document: object) -> None:
    """Print an answer on stdout."""
    typer.echo(msgspec.json.format(msgspec.json.encode(document)).decode())
