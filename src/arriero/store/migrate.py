"""Bring a store's schema up to date: `python -m arriero.store.migrate`, with its URL on stdin.

A process of its own, because Alembic and SQLAlchemy take half a second and 40 MB that serving does
not need. The URL may hold a password, which must not stand in a process's arguments. The steps run
under a lock, so that gateways that start together do not collide, and each is done whole or not at
all.
"""

import sys
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK_TIMEOUT_S = 60.0  # while another process takes the same steps


def alembic_config() -> Config:
    """Return Alembic's configuration, which needs no file."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return config


def engine_for(url: str) -> sa.Engine:
    """Return an engine for a store's URL."""
    made = sa.make_url(url)
    if made.get_backend_name() == "postgresql":
        made = made.set(drivername="postgresql+psycopg")
        return sa.create_engine(made, poolclass=sa.pool.NullPool)
    waits = {"timeout": LOCK_TIMEOUT_S}
    return sa.create_engine(made, poolclass=sa.pool.NullPool, connect_args=waits)


def migrate(url: str, revision: str = "head") -> None:
    """Run all steps up to `revision` that the store has not seen."""
    config = alembic_config()
    with engine_for(url).connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("select pg_advisory_lock(7161640519)"))
            connection.commit()
        else:
            # Python's own begins before the first row is written, when tables have been made.
            connection.exec_driver_sql("begin immediate")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()


if __name__ == "__main__":
    migrate(sys.stdin.readline().strip())
