"""Keys, the audit of their changes, and usage."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# SQLite counts by itself in a column of exactly this type only.
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
SECONDS = sa.Float(53)


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
        sa.Column("seq", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("key_id", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "audit",
        sa.Column("seq", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("at", SECONDS, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("client", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("audit_key", "audit", ["key_id", "seq"])
    make_usage_requests()
    _make_usage_days()


_NAMES = ("key_id", "user_name", "alias", "backend")
_TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens")


def make_usage_requests() -> None:
    """Make the table of single requests; the step that drops it makes it again on the way back."""
    op.create_table(
        "usage_requests",
        sa.Column("seq", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("at", SECONDS, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in _NAMES),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("model", "operation", "outcome")),
        sa.Column("status", sa.Integer, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _TOKENS),
        *(
            sa.Column(name, SECONDS, nullable=False)
            for name in ("queue_s", "first_token_s", "duration_s")
        ),
    )
    op.create_index("usage_requests_at", "usage_requests", ["at"])


def _make_usage_days() -> None:
    op.create_table(
        "usage_days",
        sa.Column("day", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, primary_key=True) for name in _NAMES),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("failures", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _TOKENS),
    )


def downgrade() -> None:
    """Drop them."""
    for name in ("usage_days", "usage_requests", "audit", "key_changes", "keys", "meta"):
        op.drop_table(name)
