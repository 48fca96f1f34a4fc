import subprocess
from pathlib import Path

import pytest
from lab.leftovers import leftovers, machines, mounts_below

from lab import __main__ as command


def test_mounts_are_found_below_the_folder_alone() -> None:
    lines = [
        "overlay /var/cache/lab/run/hosts/a/root overlay rw 0 0",
        "tmpfs /var/cache/lab/runner tmpfs rw 0 0",
        "proc /proc proc rw 0 0",
    ]
    found = mounts_below(lines, Path("/var/cache/lab/run"))
    assert found == ["/var/cache/lab/run/hosts/a/root"]


def test_a_machine_is_known_by_its_own_word() -> None:
    with subprocess.Popen(["sleep", "60", "--machine=arl-x"], stderr=subprocess.DEVNULL) as other:
        other.wait()  # sleep refuses the word, so nothing of that name is left
    argv = ["sh", "-c", "echo; read x", "sh", "--machine=arl-x"]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe) as machine:
        try:
            assert machine.stdout
            machine.stdout.readline()  # /proc shows no words until the program has begun
            assert machine.pid in machines()
            assert f"process {machine.pid}" in leftovers()
        finally:
            machine.kill()


@pytest.mark.parametrize("left", [[], ["mount /x"]])
def test_what_is_left_behind_fails_the_run(
    left: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "leftovers", lambda: left)
    row = command.torn_down(1.0)
    assert row.passed is not bool(left)
    assert all(name in row.note for name in left)
