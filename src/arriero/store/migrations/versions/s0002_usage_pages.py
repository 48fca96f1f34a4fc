"""Single requests go from a row each into pages of many, which take a quarter of the time to write.

Both ways carry over what is there, a page at a time. What a page holds is said here once more: this
step has to stay as it is, whatever later releases make of pages.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import sqlalchemy as sa
from alembic import op

from arriero.store.migrations.versions.s0001_keys_and_usage import (
    NUMBER,
    SECONDS,
    make_usage_requests,
)

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

PAGE_ROWS = 500
# In this order in the arrays of a page; 0 is the place of a number that reading gives.
_COLUMNS = (
    "request_id", "at", "key_id", "user_name", "alias", "model", "backend", "operation", "outcome",
    "status", "prompt_tokens", "cached_tokens", "completion_tokens", "queue_s", "first_token_s",
    "duration_s",
)  # fmt: skip
_AT = _COLUMNS.index("at")
_requests = sa.table("usage_requests", sa.column("seq"), *(sa.column(name) for name in _COLUMNS))
_pages = sa.table(
    "usage_pages",
    *(sa.column(name) for name in ("seq", "first_at", "last_at", "requests", "document")),
)


def upgrade() -> None:
    """Make the pages out of the requests, and drop those."""
    op.create_table(
        "usage_pages",
        sa.Column("seq", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("first_at", SECONDS, nullable=False),
        sa.Column("last_at", SECONDS, nullable=False),
        sa.Column("requests", sa.Integer, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("usage_pages_last_at", "usage_pages", ["last_at"])
    connection = op.get_bind()
    _let_nobody_write(connection, "usage_requests")
    for rows in _chunks(connection, _requests, PAGE_ROWS):
        page = [[*row[1:], 0] for row in rows]
        times = [row[_AT] for row in page]
        columns = {
            "first_at": min(times),
            "last_at": max(times),
            "requests": len(page),
            "document": msgspec.json.encode(page).decode(),
        }
        connection.execute(_pages.insert(), columns)
    op.drop_table("usage_requests")


def downgrade() -> None:
    """Make the requests out of the pages, and drop those."""
    make_usage_requests()
    connection = op.get_bind()
    _let_nobody_write(connection, "usage_pages")
    for (page,) in _chunks(connection, _pages, 1):
        rows = msgspec.json.decode(page.document, type=list[list[str | int | float]])
        connection.execute(
            _requests.insert(), [dict(zip(_COLUMNS, row[:-1], strict=True)) for row in rows]
        )
    op.drop_table("usage_pages")


def _let_nobody_write(connection: sa.Connection, table: str) -> None:
    """Keep gateways of the other release from adding to a table that will be dropped.

    An SQLite file is locked already.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text(f"lock table {table} in exclusive mode"))


def _chunks(
    connection: sa.Connection, table: sa.TableClause, most: int
) -> Iterator[list[sa.Row[Any]]]:
    """Return the rows of a table in the order of their numbers, some at a time."""
    seq = 0
    some = sa.select(table).order_by(table.c.seq).limit(most)
    while rows := list(connection.execute(some.where(table.c.seq > seq))):
        yield rows
        seq = rows[-1][0]
