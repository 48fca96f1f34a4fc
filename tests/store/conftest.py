"""Each test of the store runs on SQLite and on a real PostgreSQL, which the tests start."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.store.postgresql import Postgresql, start

from arriero.store.opening import open_store
from arriero.store.port import Store


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgresql]:
    """A PostgreSQL server of our own, on a socket of its own."""
    server = start()
    if isinstance(server, str):
        pytest.skip(server)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def prepared_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the schema in it; every test gets a copy, which spares it half a second."""
    path = tmp_path_factory.mktemp("store") / "prepared.db"
    open_store(f"sqlite:///{path}").close()
    return path


@pytest.fixture(scope="session")
def prepared_database(postgresql: Postgresql) -> str:
    """The name of a database with the schema in it."""
    url = postgresql.new_database()
    open_store(url).close()
    return postgresql.name_of(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        path = tmp_path / "arriero.db"
        shutil.copy(request.getfixturevalue("prepared_file"), path)
        return f"sqlite:///{path}"
    server: Postgresql = request.getfixturevalue("postgresql")
    return server.new_database(template=request.getfixturevalue("prepared_database"))


@pytest.fixture
def connect(url: str) -> Iterator[Callable[[], Store]]:
    """Open the database once more, as another gateway would."""
    opened: list[Store] = []

    def more() -> Store:
        opened.append(open_store(url))
        return opened[-1]

    yield more
    for store in opened:
        store.close()


@pytest.fixture
def store(connect: Callable[[], Store]) -> Store:
    """One store."""
    return connect()
