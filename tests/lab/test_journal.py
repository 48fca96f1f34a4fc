import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from lab.journal import UNDO, Journal, started_at


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "undo.jsonl")


def sleeper() -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["sleep", "60"], start_new_session=True)


def test_what_was_made_is_undone_at_the_end(journal: Journal, tmp_path: Path) -> None:
    made = tmp_path / "made"
    with journal.keep("folder", path=str(made)):
        made.mkdir()
        (made / "file").write_text("x")
    assert not made.exists()
    assert not (tmp_path / "undo.jsonl").exists()


def test_it_is_undone_after_an_error_as_well(journal: Journal, tmp_path: Path) -> None:
    made = tmp_path / "made"

    def broken_off() -> None:
        with journal.keep("folder", path=str(made)):
            made.mkdir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert not made.exists()


def test_it_stands_on_disk_before_it_is_made(journal: Journal, tmp_path: Path) -> None:
    with journal.keep("folder", path=str(tmp_path / "made")):
        later = Journal.read(tmp_path / "undo.jsonl")
        assert len(later) == 1


def test_a_later_run_undoes_what_a_killed_one_left(journal: Journal, tmp_path: Path) -> None:
    for name in ("one", "two"):
        journal.add("folder", path=str(tmp_path / name))
        (tmp_path / name).mkdir()
    with (tmp_path / "undo.jsonl").open("a") as file:
        file.write('["folder", {"pa')  # it was killed while it wrote
    Journal.read(tmp_path / "undo.jsonl").undo_all()
    assert sorted(path.name for path in tmp_path.iterdir()) == []


def test_what_is_left_on_purpose_stays(journal: Journal, tmp_path: Path) -> None:
    made = tmp_path / "made"
    with journal.keep("folder", path=str(made)):
        made.mkdir()
        journal.leave()
    assert made.is_dir()
    assert len(Journal.read(tmp_path / "undo.jsonl")) == 1


def test_the_last_made_is_undone_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setitem(UNDO, "folder", lambda facts: order.append(facts["path"]))
    journal = Journal(tmp_path / "undo.jsonl")
    for name in "abc":
        journal.add("folder", path=name)
    journal.undo_all()
    assert order == ["c", "b", "a"]


def test_a_process_is_ended_by_its_id(journal: Journal) -> None:
    process = sleeper()
    with journal.keep("process", pid=str(process.pid), started_at=started_at(process.pid)):
        assert started_at(process.pid)
    assert started_at(process.pid) == ""
    process.wait()


def test_somebody_elses_process_with_the_same_id_is_let_be(journal: Journal) -> None:
    process = sleeper()
    journal.add("process", pid=str(process.pid), started_at="1")
    journal.undo_all()
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_a_process_that_is_gone_is_no_error(journal: Journal) -> None:
    process = sleeper()
    facts = {"pid": str(process.pid), "started_at": started_at(process.pid)}
    process.kill()
    process.wait()
    journal.add("process", **facts)
    began = time.monotonic()
    journal.undo_all()
    assert time.monotonic() - began < 5


def test_a_file_gets_its_content_back(journal: Journal, tmp_path: Path) -> None:
    file = tmp_path / "setting"
    file.write_text("0\n")
    with journal.keep("file", path=str(file), content="0\n"):
        file.write_text("1\n")
    assert file.read_text() == "0\n"


def test_each_line_of_the_list_is_json(journal: Journal, tmp_path: Path) -> None:
    journal.add("link", name="arl-br0")
    lines = (tmp_path / "undo.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [["link", {"name": "arl-br0"}]]
