"""Find a store by its URL, and bring its schema up to date before it is used."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from arriero.store.port import Store, StoreError, StoreUnavailable
from arriero.store.sql import Database, SqlStore
from arriero.store.sqlite import SqliteDatabase

SCHEMA = "0002"  # the last step in `migrations/versions`
MIGRATE_TIMEOUT_S = 3600.0  # SQLite carries over 15 million requests in a minute


def open_store(url: str) -> Store:
    """Return the store at a URL (`sqlite:///PATH` or `postgresql://...`), with its schema in place.

    Blocks; a store that is new or of an earlier release is brought up to date by a process of its
    own. Raises StoreError.
    """
    database = _database(url)
    with ExitStack() as unless_ready:
        unless_ready.callback(database.close)
        found = _schema(database)
        if found < SCHEMA:
            _migrate(url)
            found = _schema(database)
        if found != SCHEMA:
            raise StoreError(
                f"the store's schema is {found} and this release's {SCHEMA}",
                "a later release has changed it: start that one, or restore the backup",
            )
        unless_ready.pop_all()
    return SqlStore(database)


def sqlite_path(url: str) -> Path:
    """Return the file of an SQLite URL: three slashes before a relative path, four absolute."""
    return Path(urlsplit(url).path[1:])


def _database(url: str) -> Database:
    scheme = urlsplit(url).scheme
    if scheme == "sqlite":
        path = sqlite_path(url)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
        except OSError as error:
            raise StoreUnavailable(f"{path}: {error.strerror}", f"ls -ld {path.parent}") from error
        return SqliteDatabase(path)
    if scheme in ("postgresql", "postgres"):
        try:
            from arriero.store.postgres import PostgresDatabase  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise StoreError(
                "PostgreSQL needs the extra `cluster`", "pip install 'arriero[cluster]'"
            ) from error
        return PostgresDatabase(url)
    raise StoreError(f"no store of the kind {scheme!r}", "sqlite:///PATH or postgresql://HOST/NAME")


def _schema(database: Database) -> str:
    """Return the last step the store has seen, "" for a new one."""
    try:
        rows = database.rows("select version_num from alembic_version", {})
    except StoreUnavailable:
        return ""  # no such table; if it is worse than that, migrating will say so
    return str(rows[0][0]) if rows else ""


def _migrate(url: str) -> None:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "arriero.store.migrate"],
            input=url.encode() + b"\n",
            capture_output=True,
            timeout=MIGRATE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StoreUnavailable("preparing the store took too long", "is it locked?") from error
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise StoreError(f"the store cannot be prepared: {words[-1]}", "arriero store migrate")
