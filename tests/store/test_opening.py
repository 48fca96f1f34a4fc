"""A store is found by its URL, prepared when it is new, and refused when it is too new."""

import sqlite3
import stat
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory
from tests.store.postgresql import Postgresql
from tests.store.test_conformance import FULL, put

from arriero.store.migrate import alembic_config, engine_for, migrate
from arriero.store.opening import SCHEMA, open_store
from arriero.store.port import StoreError, StoreUnavailable


def test_a_new_file_is_prepared_and_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "arriero.db"
    store = open_store(f"sqlite:///{path}")
    put(store, FULL)
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
    assert modes == dict.fromkeys(("arriero.db", "arriero.db-shm", "arriero.db-wal"), 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    store.close()


def test_the_schema_is_the_last_step() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_current_head() == SCHEMA


def test_a_store_of_a_later_release_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/arriero.db"
    open_store(url).close()
    with sqlite3.connect(tmp_path / "arriero.db") as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    connection.close()
    with pytest.raises(StoreError, match="9999") as told:
        open_store(url)
    assert told.value.hint


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_every_step_goes_up_from_the_first_and_down_again(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path}/arriero.db"
    else:
        server: Postgresql = request.getfixturevalue("postgresql")
        url = server.new_database()
    steps = [one.revision for one in ScriptDirectory.from_config(alembic_config()).walk_revisions()]
    for revision in reversed(steps):
        migrate(url, revision)
    store = open_store(url)
    put(store, FULL)
    assert store.load_keys().changed == (FULL,)
    store.close()
    config = alembic_config()
    engine = engine_for(url)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        connection.commit()
        assert set(sa.inspect(connection).get_table_names()) <= {"alembic_version"}
    engine.dispose()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="File exists") as told:
        open_store(f"sqlite:///{tmp_path}/file/arriero.db")
    assert told.value.hint.startswith("ls -ld")


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "arriero.db").write_text("no database, but long enough to look at" * 99)
    with pytest.raises(StoreError):
        open_store(f"sqlite:///{tmp_path}/arriero.db")


def test_an_unknown_kind_is_told() -> None:
    with pytest.raises(StoreError, match="mysql"):
        open_store("mysql://x")


def test_a_password_is_in_no_error() -> None:
    with pytest.raises(StoreUnavailable) as told:
        open_store("postgresql://me:s3cret@127.0.0.1:1/x")
    assert "s3cret" not in f"{told.value} {told.value.hint}"
