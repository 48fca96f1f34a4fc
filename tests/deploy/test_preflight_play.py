"""The preflight's playbook on this machine: phase 1 tells everything, stops, changes nothing.

Phase 2 changes a host's network, sudo and sshd, so that only the lab runs it.
"""

import json
import shutil
import subprocess
from pathlib import Path

import jinja2
import pytest
from tests.deploy.playing import ANSIBLE, Player, holds, only

pytestmark = pytest.mark.timeout(240)

INVENTORY = "[litellm]\nhx-api-server ansible_connection=local ansible_become=false\n"
OFF = {f"hx_preflight_{name}": False for name in ("dns", "netplan", "resolver", "sso", "ca")}


def phase_1(player: Player, **more: object) -> tuple[int, str, Path]:
    (player.folder / "hosts.ini").write_text(INVENTORY)
    variables = {
        "hx_preflight_fqdn": "hx-api-server.example",
        "hx_preflight_address": "198.51.100.5",
        "hx_preflight_dns_server": "127.0.0.1",
        "hx_preflight_realm": "example",
        "hx_preflight_port": 1,
        "hx_preflight_enforce": False,
        "hx_preflight_evidence": str(player.evidence),
    }
    played = player.play(
        "preflight", inventory=str(player.folder / "hosts.ini"), **(variables | more)
    )
    assert played.changed == 0, played.output
    return played.rc, played.output, only(only(player.evidence))


def test_every_failure_is_told_before_the_play_stops(player: Player) -> None:
    rc, output, folder = phase_1(player, hx_preflight_tls_services=["127.0.0.1:1"])
    assert rc != 0
    assert "NO-GO, nothing was changed" in output
    listed = json.loads((folder / "phase1/findings.json").read_text())
    assert listed["outcome"] == "NO-GO"
    failed = [f for f in listed["findings"] if f["verdict"] == "fail"]
    assert {"dns A", "dns PTR", "resolver", "admin user", "ca", "tls 127.0.0.1:1"} <= {
        f["check"] for f in failed
    }
    for finding in failed:
        assert f"{finding['check']}: found {finding['found']}; expected" in output
    assert holds(folder)
    transcript = (folder / "phase1/transcript.txt").read_text()
    assert "$ cat /etc/resolv.conf\n" in transcript
    assert not (folder / "phase2").exists()
    text = (folder / "phase1/findings.txt").read_text()
    assert text.splitlines()[0].split() == ["check", "verdict", "found"]
    assert text.endswith("\nNO-GO\n")


def test_what_is_switched_off_is_shown_as_skipped(player: Player) -> None:
    # This machine's Python may lack ensurepip, which phase 2 would install.
    rc, output, folder = phase_1(player, **OFF)
    assert rc == 0, output
    listed = json.loads((folder / "phase1/findings.json").read_text())
    assert listed["outcome"] == "GO"
    verdicts = {f["check"]: f["verdict"] for f in listed["findings"]}
    assert verdicts.pop("python") in {"pass", "pending"}
    assert verdicts.pop("port 1") == "pass"
    assert set(verdicts.values()) == {"skipped"}
    assert "hx_preflight_sso is false" in output


def test_a_site_that_says_nothing_of_itself_is_not_checked(player: Player) -> None:
    (player.folder / "hosts.ini").write_text(INVENTORY)
    played = player.play("preflight", inventory=str(player.folder / "hosts.ini"))
    assert played.rc != 0
    assert "missing required arguments" in played.output
    for name in ("hx_preflight_fqdn", "hx_preflight_address", "hx_preflight_dns_server"):
        assert name in played.output
    assert not player.evidence.exists()


def judged_by(program: str, template: str, folder: Path, *words: str) -> int:
    found = shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if not found:
        pytest.skip(f"needs {program}; the lab has it")
    source = (ANSIBLE / "roles/hx_preflight/templates" / template).read_text()
    text = jinja2.Template(source, keep_trailing_newline=True, autoescape=False).render(
        hx_preflight_admin_group="hx-linux-admins"
    )
    file = folder / "file"
    file.write_text(text)
    file.chmod(0o440)
    return subprocess.run([found, *words, str(file)], check=False, capture_output=True).returncode


def test_visudo_takes_the_drop_in(tmp_path: Path) -> None:
    assert judged_by("visudo", "sudoers.j2", tmp_path, "-cf") == 0


def test_sshd_takes_the_drop_in(tmp_path: Path) -> None:
    key = tmp_path / "key"
    if not shutil.which("ssh-keygen"):
        pytest.skip("needs ssh-keygen; the lab has it")
    if not Path("/run/sshd").is_dir():  # made by sshd's unit where it runs
        pytest.skip("needs sshd's /run/sshd; the lab has it")
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", str(key)], check=True)
    assert judged_by("sshd", "sshd.conf.j2", tmp_path, "-t", "-h", str(key), "-f") == 0
