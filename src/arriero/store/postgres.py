"""The store of several gateways: PostgreSQL 15 or later, by psycopg 3 (the `cluster` extra).

A lost connection is opened again by the next call; what was under way then fails with
StoreUnavailable, and its caller decides whether to repeat it.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator
from functools import cache

import psycopg

from arriero.store.port import KeyConflict, StoreUnavailable
from arriero.store.sql import Params, Row

CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_MS = 10_000
# Taken by every writer: changes of keys then become visible in the order of their numbers, and a
# gateway that has seen number 7 never finds a 6 later.
_WRITERS_LOCK = 0x6172726965726F  # "arriero"
_NAME = re.compile(r"(?<!:):([a-z_]+)")


class PostgresDatabase:
    """A connection to one database, which must have its schema (`store.migrate`)."""

    def __init__(self, url: str) -> None:
        """Connect. Raises StoreUnavailable."""
        self._url = url
        self._connection: psycopg.Connection | None = None
        self._connect()

    def _connect(self) -> psycopg.Connection:
        connection = self._connection
        if connection is not None and not connection.closed:
            return connection
        with _told():
            self._connection = psycopg.connect(
                self._url,
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_S,
                options=f"-c statement_timeout={STATEMENT_TIMEOUT_MS}",
                application_name="arriero",
            )
        return self._connection

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Write within; writers take turns."""
        with _told(), self._connect().transaction():
            self.run("select pg_advisory_xact_lock(:lock)", {"lock": _WRITERS_LOCK})
            yield

    def run(self, statement: str, params: Params) -> None:
        """Execute a statement with `:name` parameters."""
        with _told():
            self._connect().execute(_translated(statement), params)

    def run_many(self, statement: str, params: Iterable[Params]) -> None:
        """Execute a statement once for each of `params`."""
        with _told(), self._connect().cursor() as cursor:
            cursor.executemany(_translated(statement), params)

    def rows(self, statement: str, params: Params) -> list[Row]:
        """Return the rows of a query."""
        with _told():
            return list(self._connect().execute(_translated(statement), params).fetchall())

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()


@cache
def _translated(statement: str) -> bytes:
    """Return the statement with psycopg's placeholders."""
    return _NAME.sub(r"%(\1)s", statement).encode()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Say psycopg's errors in the store's own words; they may name the host, never the password."""
    try:
        yield
    except psycopg.errors.UniqueViolation as error:
        raise KeyConflict("another key has this alias or this secret") from error
    except psycopg.Error as error:
        raise StoreUnavailable(
            f"PostgreSQL: {type(error).__name__}", "psql with the same store.url"
        ) from error
