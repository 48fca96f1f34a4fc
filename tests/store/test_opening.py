"""A store is found by its URL, prepared when it is new, and refused when it is too new."""

import contextlib
import sqlite3
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory
from tests.store.postgresql import Postgresql
from tests.store.test_conformance import FULL, NOON, add, put, row

from arriero.store.migrate import alembic_config, engine_for, migrate
from arriero.store.opening import SCHEMA, open_store
from arriero.store.port import StoreError, StoreUnavailable, UsageQuery


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
    with pytest.raises(StoreError, match=f"schema is 9999 and this release's {SCHEMA}") as told:
        open_store(url)
    assert told.value.hint.startswith("a later release")


@pytest.fixture(params=["sqlite", "postgresql"])
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without a schema."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/arriero.db"
    server: Postgresql = request.getfixturevalue("postgresql")
    return server.new_database()


@contextlib.contextmanager
def connected(url: str) -> Iterator[sa.Connection]:
    engine = engine_for(url)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def downgrade(url: str, revision: str) -> None:
    config = alembic_config()
    with connected(url) as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def tables(url: str) -> set[str]:
    with connected(url) as connection:
        return set(sa.inspect(connection).get_table_names())


def test_every_step_goes_up_from_the_first_and_down_again(bare: str) -> None:
    steps = [one.revision for one in ScriptDirectory.from_config(alembic_config()).walk_revisions()]
    for revision in reversed(steps):
        migrate(bare, revision)
    store = open_store(bare)
    put(store, FULL)
    assert store.load_keys().changed == (FULL,)
    store.close()
    downgrade(bare, "base")
    assert tables(bare) <= {"alembic_version"}


def of_the_first_schema(number: int) -> dict[str, object]:
    """Return one row of `usage_requests`, as the first schema had them."""
    return {
        "request_id": f"r{number}",
        "at": NOON + number / 7,
        "key_id": "key-1" if number % 3 else "key-2",
        "user_name": "Jürgen 'x' \"%s :name",
        "alias": "llama",
        "model": "llama3:8b",
        "backend": "a",
        "operation": "chat",
        "outcome": "ok",
        "status": 200,
        "prompt_tokens": 2**40 + number,
        "cached_tokens": 3,
        "completion_tokens": 20,
        "queue_s": 0.0,
        "first_token_s": -1.0,
        "duration_s": 1 / 3,
    }


OLD = sa.table("usage_requests", *(sa.column(name) for name in ("seq", *of_the_first_schema(0))))
OLD_DAY = """
insert into usage_days values ('2027-01-15', 'key-1', '', 'llama', 'a', 7, 1, 30, 9, 40)
"""


def test_single_requests_of_the_first_schema_are_carried_over_and_back(bare: str) -> None:
    migrate(bare, "0001")
    old = [of_the_first_schema(number) for number in range(1201)]  # three pages
    with connected(bare) as connection:
        connection.execute(OLD.insert(), old)
        connection.execute(OLD.delete().where(OLD.c.request_id == "r600"))
        connection.execute(sa.text(OLD_DAY))
    del old[600]

    store = open_store(bare)
    found = store.usage_requests(UsageQuery())
    assert [msgspec.structs.astuple(one)[:-1] for one in reversed(found)] == [
        tuple(one.values()) for one in old
    ]
    assert len({one.seq for one in found}) == len(found)
    assert len(store.usage_requests(UsageQuery(key_id="key-2"))) == 400
    assert [day.requests for day in store.usage_days(UsageQuery())] == [7], "as they were"
    add(store, [row(2000), row(2001)])
    assert [one.request_id for one in store.usage_requests(UsageQuery(rows_max=3))] == [
        "r2001",
        "r2000",
        "r1200",
    ]
    store.close()
    assert "usage_requests" not in tables(bare)

    downgrade(bare, "0001")
    assert "usage_pages" not in tables(bare)
    with connected(bare) as connection:
        connection.execute(OLD.insert(), {**of_the_first_schema(3000)})  # numbers go on
        columns = [column for column in OLD.c if column.name != "seq"]
        back = connection.execute(sa.select(*columns).order_by(OLD.c.seq)).all()
    assert [tuple(one) for one in back[: len(old)]] == [tuple(one.values()) for one in old]
    assert [one.request_id for one in back[len(old) :]] == ["r2000", "r2001", "r3000"]


def test_a_step_is_done_whole_or_not_at_all(bare: str) -> None:
    migrate(bare, "0001")
    before = tables(bare)
    with connected(bare) as connection:
        connection.execute(OLD.insert(), of_the_first_schema(1))
        connection.execute(sa.text("create table usage_pages_last_at (x integer)"))
    with pytest.raises(StoreError, match="cannot be prepared"):
        open_store(bare)
    assert tables(bare) == before | {"usage_pages_last_at"}
    with connected(bare) as connection:
        connection.execute(sa.text("drop table usage_pages_last_at"))
    store = open_store(bare)
    assert len(store.usage_requests(UsageQuery())) == 1
    store.close()


def test_gateways_that_start_together_prepare_the_store_once(bare: str) -> None:
    with ThreadPoolExecutor(3) as threads:
        for store in threads.map(open_store, [bare] * 3):
            store.close()


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
