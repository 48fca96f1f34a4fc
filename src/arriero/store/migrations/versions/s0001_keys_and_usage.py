"""Keys, the audit of their changes, and usage."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# SQLite counts by itself in a column of exactly this type only.
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_SECONDS = sa.Float(53)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "meta",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("alias", sa.Text, unique=True),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_table(
        "key_changes",
        sa.Column("seq", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("key_id", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "audit",
        sa.Column("seq", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("at", _SECONDS, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("client", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("audit_key", "audit", ["key_id", "seq"])
    _usage()


def _usage() -> None:
    names = ("key_id", "user_name", "alias", "backend")
    tokens = ("prompt_tokens", "cached_tokens", "completion_tokens")
    op.create_table(
        "usage_requests",
        sa.Column("seq", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("at", _SECONDS, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in names),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("model", "operation", "outcome")),
        sa.Column("status", sa.Integer, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in tokens),
        *(
            sa.Column(name, _SECONDS, nullable=False)
            for name in ("queue_s", "first_token_s", "duration_s")
        ),
    )
    op.create_index("usage_requests_at", "usage_requests", ["at"])
    op.create_table(
        "usage_days",
        sa.Column("day", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, primary_key=True) for name in names),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("failures", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in tokens),
    )


def downgrade() -> None:
    """Drop them."""
    for name in ("usage_days", "usage_requests", "audit", "key_changes", "keys", "meta"):
        op.drop_table(name)
