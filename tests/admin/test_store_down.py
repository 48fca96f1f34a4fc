"""While the store is away keys serve on, changes are refused, and nothing is let in."""

import sqlite3
from pathlib import Path

import pytest
from tests.admin.conftest import Api


@pytest.fixture
def url(prepared_file: Path, tmp_path: Path) -> str:
    """A file, whose tables can be taken away."""
    (tmp_path / "arriero.db").write_bytes(prepared_file.read_bytes())
    return f"sqlite:///{tmp_path}/arriero.db"


def rename(file: Path, table: str, name: str) -> None:
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute(f"alter table {table} rename to {name}")
    connection.close()


async def test_keys_serve_on_and_changes_are_refused(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "arriero.db"
    made = await api.make(key_alias="bob")
    rename(file, "keys", "away")
    for path, body in (
        ("/key/generate", {}),
        ("/key/update", {"key": "bob", "rpm_limit": 1}),
        ("/key/block", {"key": "bob"}),
        ("/key/delete", {"keys": ["bob"]}),
        ("/key/bob/regenerate", {}),
    ):
        error = await api.refused(503, "POST", path, body)
        assert error["code"] == "store_unavailable"
        assert str(tmp_path) not in error["message"]
    assert await api.status(made["key"]) == 200
    assert await api.status("sk-nobody-0123456789") == 401
    assert len(api.running.gateway.ring) == 1
    assert (await api.ask("GET", "/key/info?key=bob"))["info"]["rpm_limit"] is None
    rename(file, "away", "keys")
    assert (await api.ask("POST", "/key/block", {"key": "bob"}))["blocked"] is True
    api.running.events.records.clear()
