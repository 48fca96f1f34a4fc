"""A backup is the store of one moment, whole or not there at all."""

import shutil
import stat
import subprocess
import threading
from pathlib import Path

import pytest
from tests.store.postgresql import Postgresql

from arriero.core.keys import Key
from arriero.store.backup import backup
from arriero.store.opening import open_store
from arriero.store.port import AuditEntry, StoreError

KEY = Key(id="key-1", digest=b"\x01" * 32, alias="bob")
ENTRY = AuditEntry(1.0, "master", "create", "key-1")


@pytest.fixture
def file_url(prepared_file: Path, tmp_path: Path) -> str:
    shutil.copy(prepared_file, tmp_path / "arriero.db")
    return f"sqlite:///{tmp_path}/arriero.db"


def test_a_copy_is_a_store_with_everything_in_it(file_url: str, tmp_path: Path) -> None:
    store = open_store(file_url)
    pepper = store.pepper(b"p" * 32)
    store.put_key(KEY, ENTRY)
    backup(file_url, tmp_path / "copy.db")
    store.remove_key("key-1", ENTRY)
    store.close()
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
    again = open_store(f"sqlite:///{tmp_path}/copy.db")
    assert again.load_keys().changed == (KEY,)
    assert again.pepper(b"q" * 32) == pepper
    assert [one.action for one in again.audit()] == ["create"]
    again.close()


def test_a_copy_is_made_while_somebody_writes(file_url: str, tmp_path: Path) -> None:
    store, stop = open_store(file_url), threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            key = Key(id=f"key-{number}", digest=number.to_bytes(32, "big"))
            store.put_key(key, AuditEntry(1.0, "master", "create", key.id))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            backup(file_url, tmp_path / f"copy{number}.db")
    finally:
        stop.set()
        writer.join()
        store.close()
    for number in range(5):
        copy = open_store(f"sqlite:///{tmp_path}/copy{number}.db")
        keys = {key.id for key in copy.load_keys().changed}
        assert keys == {entry.key_id for entry in copy.audit(rows_max=100_000)}
        copy.close()


def test_nothing_is_written_over(file_url: str, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    with pytest.raises(StoreError, match="is there already"):
        backup(file_url, tmp_path / "there")
    assert (tmp_path / "there").read_text() == "mine"
    with pytest.raises(StoreError) as error:
        backup(file_url, tmp_path / "no" / "folder")
    assert error.value.hint


def test_half_a_backup_is_none(tmp_path: Path) -> None:
    (tmp_path / "arriero.db").write_text("no database at all, but long enough for a header" * 9)
    with pytest.raises(StoreError):
        backup(f"sqlite:///{tmp_path}/arriero.db", tmp_path / "copy.db")
    with pytest.raises(StoreError):
        backup(f"sqlite:///{tmp_path}/none.db", tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_a_dump_of_postgresql_can_be_restored(
    postgresql: Postgresql, prepared_database: str, tmp_path: Path
) -> None:
    url = postgresql.new_database(template=prepared_database)
    store = open_store(url)
    store.put_key(KEY, ENTRY)
    store.close()
    backup(url, tmp_path / "copy.dump")
    other = postgresql.new_database(template="template0")
    command = ["pg_restore", "--no-owner", f"--dbname={other}", str(tmp_path / "copy.dump")]
    subprocess.run(command, check=True, capture_output=True)
    again = open_store(other)
    assert again.load_keys().changed == (KEY,)
    again.close()


@pytest.mark.parametrize(
    ("url", "plain", "password"),
    [
        ("postgresql://u:p%40ss@h:1/n?a=b", "postgresql://u@h:1/n?a=b", "p@ss"),
        ("postgresql:///n?host=/run", "postgresql:///n?host=/run", None),
        ("postgres://h/n", "postgresql://h/n", None),
    ],
)
def test_no_password_is_in_the_arguments(
    url: str, plain: str, password: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    ran: list[tuple[list[str], dict[str, str]]] = []

    def run(command: list[str], **how: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
        ran.append((command, how["env"]))
        return subprocess.CompletedProcess(command, 1, b"", b"pg_dump: error: gone\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(StoreError, match="gone"):
        backup(url, tmp_path / "copy")
    ((command, environment),) = ran
    assert command[-1] == f"--dbname={plain}"
    assert environment.get("PGPASSWORD") == password
    assert not (tmp_path / "copy").exists()
