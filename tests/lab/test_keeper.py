"""What starts a machine again that restarts, and ends it when the lab ends."""

import signal
import subprocess
import time
from pathlib import Path

from lab.machine import KEEPER, RESTARTED

TIMEOUT_S = 30


def keep(script: str, *words: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["/bin/sh", "-c", KEEPER, "keeper", "sh", "-c", script, "sh", *words])


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def runs(process: Path) -> bool:
    try:
        return "State:\tZ" not in (process / "status").read_text()
    except OSError:
        return False


def test_a_machine_that_restarts_is_started_again(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    script = f'echo >>"$1"; [ "$(wc -l <"$1")" = 3 ] || exit {RESTARTED}; exit 7'
    assert keep(script, str(starts)).wait(TIMEOUT_S) == 7
    assert len(starts.read_text().splitlines()) == 3


def test_a_machine_that_is_to_end_ends_in_its_own_time(tmp_path: Path) -> None:
    up, down = tmp_path / "up", tmp_path / "down"
    # As nspawn does: asked to end, it shuts its machine down, which may even ask to restart.
    script = f'trap "touch $2; exit {RESTARTED}" TERM; touch "$1"; while :; do sleep 0.05; done'
    keeper = keep(script, str(up), str(down))
    wait_for(up)
    keeper.send_signal(signal.SIGTERM)
    assert keeper.wait(TIMEOUT_S) == RESTARTED
    assert down.exists()


def test_no_machine_outlives_a_keeper_that_is_killed(tmp_path: Path) -> None:
    up = tmp_path / "up"
    keeper = keep('echo $$ >"$1.new"; mv "$1.new" "$1"; exec sleep 60', str(up))
    wait_for(up)
    machine = Path("/proc") / up.read_text().strip()
    assert runs(machine)
    keeper.kill()
    keeper.wait(TIMEOUT_S)
    deadline = time.monotonic() + TIMEOUT_S
    while runs(machine):
        assert time.monotonic() < deadline
        time.sleep(0.02)
