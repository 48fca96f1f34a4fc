import ipaddress
import subprocess
import sys
from pathlib import Path

import pytest
from lab.cgroups import entering, own_group
from lab.common import NETPLAN, personalise
from lab.dns import lay
from lab.files import enable, mask, put
from lab.hosts import API, CONTROL_ADDRESS, DC, FULL, NETWORK, SHORT
from lab.journal import Journal
from lab.network import BRIDGE
from lab.paths import REPOSITORY
from lab.problems import CannotRun, CheckFailed, expect
from lab.report import Row, line, verdict, write
from lab.rootfs import Layers, Overlay, digest
from lab.scenario import ALL
from lab.shell import CommandFailed, Shell, Transcript

from lab import __main__ as command
from lab import story


def test_hosts_are_in_test_net_2_and_differ() -> None:
    network = ipaddress.ip_network("198.51.100.0/24")
    assert ipaddress.ip_network(NETWORK) == network
    addresses = [host.address for host in FULL] + [CONTROL_ADDRESS]
    assert len(set(addresses)) == len(addresses)
    assert all(ipaddress.ip_address(address) in network for address in addresses)


def test_links_have_names_that_fit_and_are_the_labs_own() -> None:
    links = [BRIDGE, *(f"vb-{host.machine}" for host in FULL)]
    assert all(len(name) <= 15 and "arl-" in name for name in links)
    assert len(set(links)) == len(links)


def test_the_short_story_needs_no_host_of_the_full_one() -> None:
    assert set(SHORT) < set(FULL)


def test_every_step_has_a_name_of_its_own_and_says_what_it_does() -> None:
    assert set(story.STEPS) == {scenario.name for scenario in ALL}
    for steps in story.STEPS.values():
        names = [step.name for step in steps]
        assert len(set(names)) == len(names)
        assert all(len((step.play.__doc__ or "").split()) > 3 for step in steps)
    assert {step.name for step in story.SHORT} <= {step.name for step in story.FULL}


def test_a_command_that_fails_is_told_with_its_output(tmp_path: Path) -> None:
    shell = Shell(Transcript(tmp_path / "t"))
    with pytest.raises(CommandFailed, match="exit code 3: sh -c") as caught:
        shell.run(["sh", "-c", "echo why; exit 3"])
    assert "why" in str(caught.value)
    assert shell.run(["false"], check=False).code == 1
    assert "[exit 1," in (tmp_path / "t").read_text()


def test_a_command_has_a_time_limit() -> None:
    done = Shell(Transcript()).run(["sh", "-c", "echo a; sleep 9"], timeout_s=0.3, check=False)
    assert done.code == 124
    assert "no end within" in done.output


def test_secrets_are_stars_in_the_transcript(tmp_path: Path) -> None:
    transcript = Transcript(tmp_path / "t")
    transcript.hide("sk-secret")
    transcript.write("the key is sk-secret")
    assert (tmp_path / "t").read_text() == "the key is ***\n\n"


def test_expect_says_what_was_seen() -> None:
    expect([1], "never")
    with pytest.raises(CheckFailed, match="2 changes"):
        expect([], "2 changes")


def test_a_layer_is_made_once_and_only_kept_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARRIERO_LAB_CACHE", str(tmp_path))
    layers = Layers(Shell(Transcript()), Journal(tmp_path / "undo.jsonl"))

    def breaks(folder: Path) -> None:
        (folder / "half").touch()
        raise CheckFailed("no network")

    with pytest.raises(CheckFailed):
        layers.get("base", "one", breaks)
    assert list((tmp_path / "layers").iterdir()) == []
    made = layers.get("base", "one", lambda folder: (folder / "file").touch())
    assert layers.get("base", "one", breaks) == made
    newer = layers.get("base", "two", lambda folder: (folder / "file").touch())
    assert list((tmp_path / "layers").iterdir()) == [newer]  # the old one has no user any more


def test_a_layers_key_tells_apart_what_went_into_it() -> None:
    assert digest("a", "b") != digest("ab") != digest("b", "a")


def test_the_highest_layer_stands_first() -> None:
    parts = Overlay([Path("/base"), Path("/common")], Path("/host/upper"), Path("/host"))
    assert parts.options == "lowerdir=/common:/base,upperdir=/host/upper,workdir=/host/work"


def test_a_host_gets_one_netplan_file_and_its_names(tmp_path: Path) -> None:
    personalise(tmp_path, API)
    files = list((tmp_path / "etc/netplan").iterdir())
    assert [path.name for path in files] == ["50-hx-static.yaml"]
    text = files[0].read_text()
    assert f"addresses: [{API.address}/24]" in text
    assert f"addresses: [{DC.address}]" in text
    assert files[0].stat().st_mode & 0o077 == 0
    assert "renderer: networkd" in NETPLAN
    assert f"{API.address} {API.fqdn} {API.name}" in (tmp_path / "etc/hosts").read_text()


def test_every_host_has_a_record(tmp_path: Path) -> None:
    lay(tmp_path, FULL)
    records = (tmp_path / "etc/dnsmasq-hx.conf").read_text()
    assert all(f"host-record={host.fqdn},{host.address}\n" in records for host in FULL)


def test_units_are_enabled_and_masked_by_links(tmp_path: Path) -> None:
    put(tmp_path, "/etc/systemd/system/a.service", "[Service]\n")
    enable(tmp_path, "a.service")
    mask(tmp_path, "b.timer")
    system = tmp_path / "etc/systemd/system"
    link = system / "multi-user.target.wants" / "a.service"
    assert str(link.readlink()) == "/etc/systemd/system/a.service"
    assert str((system / "b.timer").readlink()) == "/dev/null"


def test_a_command_enters_its_groups_before_it_begins(tmp_path: Path) -> None:
    entrance = tmp_path / "cgroup.procs"
    words = entering([str(entrance)])
    subprocess.run([*words, "sh", "-c", f"grep -qx $$ {entrance}"], check=True)


def test_groups_are_made_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cgroup.procs").touch()
    monkeypatch.setattr("lab.cgroups.HIERARCHIES", (tmp_path, tmp_path / "absent"))
    with own_group(Journal(tmp_path / "undo"), "arl-x") as words:
        (tmp_path / "arl-x" / "payload").mkdir()
        assert str(tmp_path / "arl-x" / "cgroup.procs") in words
    assert not (tmp_path / "arl-x").exists()


def test_the_table_tells_the_verdict(tmp_path: Path) -> None:
    good = Row("boot", passed=True, duration_s=5.0, note="4 hosts\nand more")
    bad = Row("apply", passed=False, duration_s=1.0, note="a | b")
    assert verdict([good]) == "GO"
    assert verdict([good, bad]) == "NO-GO"
    assert verdict([]) == "NO-GO"
    assert line(good) == "ok       5.0 s  boot                   4 hosts"
    write(tmp_path, [good, bad])
    text = (tmp_path / "steps.md").read_text()
    assert "# Lab: NO-GO, 6 s" in text
    assert "a \\| b" in text
    assert '"verdict": "NO-GO"' in (tmp_path / "steps.json").read_text()


def test_an_unknown_step_is_told_with_those_there_are() -> None:
    with pytest.raises(CannotRun, match="choose from hosts, "):
        command.chosen(command.parse(["--only", "dance"]))
    only = command.chosen(command.parse(["--short", "--only", "apply", "hosts"]))
    assert [step.name for step in only] == ["hosts", "apply"]


@pytest.mark.parametrize(("asked", "code"), [([], 3), (["--if-possible"], 0)])
def test_without_root_it_says_so(
    asked: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("ARRIERO_LAB_CACHE", str(tmp_path))
    monkeypatch.setattr("lab.paths.EVIDENCE", tmp_path / "evidence")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert command.main(["--short", *asked]) == code
    assert "needs root" in capsys.readouterr().out


def test_a_signal_ends_the_run_in_order() -> None:
    script = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1])\n"
        "from lab import __main__ as command\n"
        "command.catch_signals()\n"
        "try:\n    os.kill(os.getpid(), signal.SIGTERM)\n"
        "finally:\n    os.kill(os.getpid(), signal.SIGINT); print('cleaned')\n"
    )
    argv = [sys.executable, "-c", script, str(REPOSITORY)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (128 + 15, "cleaned\n")
