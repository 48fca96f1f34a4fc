"""The way back of a netplan change: whatever fails, the old files return; and only once.

The real program runs; netplan, systemctl and systemd-run cannot exist here, so that stand-ins write
down how they were called. That a real host goes back is the lab's to show.
"""

import os
import subprocess
from pathlib import Path

import pytest
from tests.deploy.playing import ANSIBLE

PROGRAM = ANSIBLE / "roles/hx_preflight/files/hx-netplan-try"
OLD = {"10-one.yaml": "old one", "20-two.yaml": "old two"}
NEW = "50-hx-static.yaml"


class Host:
    """A root folder with two netplan files, and programs that fail when told to."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.netplan = self.root / "etc/netplan"
        self.state = self.root / "var/lib/hx-netplan-try"
        self.units = self.root / "etc/systemd/system"
        for path in (self.netplan, self.state, self.units):
            path.mkdir(parents=True)
        for name, text in OLD.items():
            (self.netplan / name).write_text(text)
        (self.state / "new.yaml").write_text("new")
        self.programs = folder / "bin"
        self.programs.mkdir()
        self.calls = folder / "calls"
        self.calls.touch()
        for name in ("netplan", "systemctl", "systemd-run"):
            self.program(name)

    def program(self, name: str, fails_at: str = "-") -> None:
        path = self.programs / name
        path.write_text(
            f'#!/bin/sh\necho "{name} $*" >>{self.calls}\ncase "$*" in {fails_at}) exit 1 ;; esac\n'
        )
        path.chmod(0o755)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": f"{self.programs}:{os.environ['PATH']}", "HX_ROOT": str(self.root)}
        return subprocess.run(
            [str(PROGRAM), *words], env=env, check=False, capture_output=True, text=True
        )

    def begin(self) -> subprocess.CompletedProcess[str]:
        return self.run("begin", str(self.state / "new.yaml"), f"/etc/netplan/{NEW}", "120")

    def called(self, words: str) -> bool:
        return any(line.startswith(words) for line in self.calls.read_text().splitlines())

    def files(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.netplan.iterdir()}

    def armed(self) -> bool:
        return bool(list(self.units.iterdir()))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_try_that_is_confirmed_stays(host: Host) -> None:
    assert host.begin().returncode == 0
    assert host.files() == {NEW: "new"}
    assert (host.netplan / NEW).stat().st_mode & 0o077 == 0
    assert host.called("systemd-run --quiet --collect --unit=hx-netplan-revert --on-active=120")
    assert host.armed()
    assert host.run("apply").returncode == 0
    assert host.run("confirm").returncode == 0
    assert not host.armed()
    assert host.called("systemctl stop hx-netplan-revert.timer")
    assert host.run("revert").returncode == 0
    assert host.files() == {NEW: "new"}


def test_a_try_that_nobody_confirms_goes_back(host: Host) -> None:
    host.begin()
    host.run("apply")
    assert host.run("revert").returncode == 0
    assert host.files() == OLD
    assert not host.armed()
    late = host.run("confirm")
    assert late.returncode == 1
    assert "the old files are back" in late.stderr


def test_a_machine_that_was_switched_off_goes_back_before_its_network_starts(host: Host) -> None:
    host.begin()
    (unit,) = host.units.iterdir()
    assert "ExecStart=/usr/local/sbin/hx-netplan-try revert boot" in unit.read_text()
    assert "Before=network-pre.target systemd-networkd.service" in unit.read_text()
    host.calls.write_text("")
    assert host.run("revert", "boot").returncode == 0
    assert host.files() == OLD
    assert host.called("netplan generate")
    assert not host.called("netplan apply")


def test_a_file_that_netplan_refuses_changes_nothing(host: Host) -> None:
    host.program("netplan", "*--root-dir*")
    refused = host.begin()
    assert refused.returncode == 1
    assert "nothing was changed" in refused.stderr
    assert host.files() == OLD
    assert not host.armed()


def test_without_a_timer_nothing_is_changed(host: Host) -> None:
    host.program("systemd-run", "*hx-netplan-revert*")
    refused = host.begin()
    assert refused.returncode == 1
    assert host.files() == OLD
    assert not host.armed()
    assert not (host.state / "unconfirmed").exists()


def test_applying_that_fails_goes_back_at_once(host: Host) -> None:
    host.begin()
    host.program("netplan", "apply")
    host.run("apply")
    assert host.files() == OLD
    refused = host.run("confirm")
    assert refused.returncode == 1
    assert "netplan apply failed" in refused.stderr


def test_what_was_not_applied_is_not_confirmed(host: Host) -> None:
    host.begin()
    early = host.run("confirm")
    assert early.returncode == 1
    assert "not applied yet" in early.stderr
    assert host.run("revert").returncode == 0
    assert host.files() == OLD


def test_two_tries_at_a_time_are_refused(host: Host) -> None:
    host.begin()
    second = host.begin()
    assert second.returncode == 1
    assert "another try" in second.stderr


def test_a_second_try_after_the_first(host: Host) -> None:
    host.begin()
    host.run("apply")
    host.run("confirm")
    (host.state / "new.yaml").write_text("newer")
    host.begin()
    assert host.files() == {NEW: "newer"}
    host.run("revert")
    assert host.files() == {NEW: "new"}


@pytest.mark.parametrize("words", [[], ["begin"], ["begin", "one"], ["other"]])
def test_wrong_use(host: Host, words: list[str]) -> None:
    assert host.run(*words).returncode == 1
    assert host.files() == OLD
