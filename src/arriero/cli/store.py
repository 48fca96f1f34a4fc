"""`arriero store`: prepare the store of keys and usage, and copy it."""

from pathlib import Path
from typing import Annotated

import typer

from arriero.cli.access import fail
from arriero.cli.key_options import (
    ConfigFile,
    StateDirectory,
    StoreUrl,
    Where,
    config_of,
    store_url,
)
from arriero.store.backup import backup as copy_store
from arriero.store.opening import SCHEMA, open_store
from arriero.store.port import StoreError

store = typer.Typer(
    name="store",
    help="Prepare the store of keys and usage, and copy it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@store.command()
def migrate(
    *,
    address: StoreUrl = None,
    state_directory: StateDirectory = None,
    config: ConfigFile = None,
) -> None:
    """Bring the store's schema up to date, or make the store.

    The service does the same when it starts. Do it as the user that the service runs as.
    """
    url = _url(address, state_directory, config, must_exist=False)
    try:
        open_store(url).close()
    except StoreError as error:
        fail(f"the store: {error}", error.hint or "is it in use by a later release?")
    typer.echo(f"the schema is {SCHEMA}", err=True)


@store.command()
def backup(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file to write into.")],
    address: StoreUrl = None,
    state_directory: StateDirectory = None,
    config: ConfigFile = None,
) -> None:
    """Copy the store into a file, also while the service runs.

    Of SQLite it is a database that can take the place of arriero.db, of PostgreSQL a dump for
    pg_restore. No secret of a key can be read from it; all the same, keep it as you keep secrets.
    """
    url = _url(address, state_directory, config)
    try:
        copy_store(url, file)
    except StoreError as error:
        fail(f"no backup: {error}", error.hint)
    typer.echo(f"written: {file}", err=True)


def _url(
    address: str | None,
    state_directory: Path | None,
    config: Path | None,
    *,
    must_exist: bool = True,
) -> str:
    where = Where(url="", store=address, state_directory=state_directory, config=config)
    if not where.is_store:
        fail("no store is named", "--state-directory DIR, --config FILE or --store URL", code=2)
    return store_url(where, config_of(config), must_exist=must_exist)
