"""The embedded store: one SQLite file, in write-ahead mode, synced at every commit.

`synchronous=FULL` makes what was answered survive a loss of power, not only of the process; a
commit of usage comes a few times a second and one of a key hardly ever, so it costs nothing.
"""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from arriero.store.port import KeyConflict, StoreUnavailable
from arriero.store.sql import Params, Row

BUSY_TIMEOUT_S = 5.0


class SqliteDatabase:
    """A connection to one file, which must have its schema (`store.migrate`)."""

    def __init__(self, path: Path) -> None:
        """Open the file. Raises StoreUnavailable."""
        try:
            # The store's thread is made after this object, so SQLite's own check would misfire.
            self._connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("pragma journal_mode = wal")
            self._connection.execute("pragma synchronous = full")
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{path}: {error}", f"ls -l {path.parent}") from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Write within. Takes the file's write lock at once, so that writers take turns."""
        with _told():
            self._connection.execute("begin immediate")
            end = "rollback"
            try:
                yield
                end = "commit"
            finally:
                self._connection.execute(end)

    def run(self, statement: str, params: Params) -> None:
        """Execute a statement with `:name` parameters."""
        with _told():
            self._connection.execute(statement, params)

    def run_many(self, statement: str, params: Iterable[Params]) -> None:
        """Execute a statement once for each of `params`."""
        with _told():
            self._connection.executemany(statement, params)

    def rows(self, statement: str, params: Params) -> list[Row]:
        """Return the rows of a query."""
        with _told():
            return self._connection.execute(statement, params).fetchall()

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Say SQLite's errors in the store's own words."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise KeyConflict("another key has this alias or this secret") from error
    except sqlite3.Error as error:
        raise StoreUnavailable(str(error), "is its disk full or its folder read-only?") from error
