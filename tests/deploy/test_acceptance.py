"""The acceptance: what hosts say, judged; and the playbook itself against a gateway with faults.

systemd's and the journal's commands have stand-ins, as no systemd runs here; the lab has real ones.
"""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.fake_gateway import KEY, Gateway, running
from tests.deploy.playing import ANSIBLE, Player, filters, holds, only

needs_ss = pytest.mark.skipif(not shutil.which("ss"), reason="needs ss; the lab has it")
KNOWN = filters("hx_acceptance", "hx_acceptance")
SHOW = """\
ActiveState=active
SubState=running
NRestarts=0
UnitFileState=enabled
ActiveEnterTimestamp=Mon 2025-01-31 23:59:59 UTC
"""
LISTENERS = "LISTEN 0 4096 0.0.0.0:4000 0.0.0.0:*\nLISTEN 0 128 [::]:22 [::]:*\n"
GATEWAY = ["198.51.100.5", "2001:db8::5"]


def host(show: str = SHOW, listeners: str = LISTENERS) -> dict[str, tuple[str, str]]:
    facts = {"service": "litellm.service", "show": show, "port": 4000, "listeners": listeners}
    return {f["step"]: (f["verdict"], f["detail"]) for f in KNOWN["hx_acceptance_host"](facts)}


def test_a_good_host() -> None:
    told = host()
    assert {verdict for verdict, _ in told.values()} == {"pass"}
    assert set(told) == {"unit litellm.service", "unit at boot", "port 4000 on the LAN"}


@pytest.mark.parametrize(
    ("show", "listeners", "step", "words"),
    [
        (
            SHOW.replace("running", "auto-restart"),
            LISTENERS,
            "unit litellm.service",
            "auto-restart",
        ),
        (SHOW.replace("=active", "=failed"), LISTENERS, "unit litellm.service", "failed"),
        ("", LISTENERS, "unit litellm.service", "?"),
        (SHOW.replace("enabled", "disabled"), LISTENERS, "unit at boot", "disabled"),
        (SHOW, "", "port 4000 on the LAN", "nobody listens"),
        (SHOW, "LISTEN 0 1 127.0.0.1:4000 *:*", "port 4000 on the LAN", "listening on 127.0.0.1"),
        (SHOW, "LISTEN 0 1 [::1]:4000 *:*", "port 4000 on the LAN", "listening on [::1]"),
        (SHOW, "LISTEN 0 1 0.0.0.0:14000 *:*", "port 4000 on the LAN", "nobody listens"),
    ],
)
def test_a_host_with_a_fault(show: str, listeners: str, step: str, words: str) -> None:
    verdict, detail = host(show, listeners)[step]
    assert verdict == "fail"
    assert words in detail


def ps(**moments: str) -> dict[str, Any]:
    return {"models": [{"name": name, "expires_at": moment} for name, moment in moments.items()]}


OLD, NEW, NEVER = "2025-01-31T23:00:00Z", "2025-01-31T23:10:00Z", "2318-01-31T23:10:00Z"
PEERS = "198.51.100.5:41000\n[::ffff:198.51.100.5]:41002\n198.51.100.1:5000\n"
GIN = '[GIN] 2025/01/31 - 23:59:59 | 200 | 1.2s | 198.51.100.5 | POST     "/api/chat"\n'


def backend(
    before: dict[str, Any], after: dict[str, Any], peers: str = PEERS, log: str = ""
) -> list[tuple[str, str]]:
    hosts = [{"name": "llm01", "before": before, "after": after, "peers": peers, "log": log}]
    found = KNOWN["hx_acceptance_backends"](hosts, GATEWAY)
    return [(f["verdict"], f["detail"]) for f in found]


@pytest.mark.parametrize(
    ("before", "after", "log", "verdict", "words"),
    [
        (ps(), ps(phi3=NEW), "", "pass", "used meanwhile: phi3"),
        (ps(phi3=OLD), ps(phi3=NEW), "", "pass", "used meanwhile: phi3"),
        (ps(phi3=OLD), ps(phi3=OLD), "", "fail", "no model was used"),
        (ps(), {"models": None}, "", "fail", "no model was used"),
        (ps(phi3=NEVER), ps(phi3=NEVER), "", "not measured", "it unloads never"),
        (ps(phi3=NEVER), ps(phi3=NEVER), GIN + GIN, "pass", "2 requests of the gateway"),
        (ps(phi3=OLD), ps(phi3=OLD), GIN.replace(".5 ", ".9 "), "fail", "no model was used"),
        (ps(phi3=OLD), ps(phi3=OLD), GIN.replace("POST", "GET"), "fail", "no model was used"),
        ({}, {}, "", "fail", "/api/ps does not answer"),
    ],
)
def test_who_served(
    before: dict[str, Any], after: dict[str, Any], log: str, verdict: str, words: str
) -> None:
    _, served = backend(before, after, log=log)
    assert served[0] == verdict
    assert words in served[1]


@pytest.mark.parametrize(
    ("peers", "after", "verdict", "words"),
    [
        (PEERS, ps(phi3=NEW), "pass", "2 from the gateway; also from 198.51.100.1"),
        ("[2001:db8::5]:41000", ps(phi3=NEW), "pass", "1 from the gateway"),
        ("", ps(phi3=NEW), "not measured", "too short to be seen"),
        ("198.51.100.1:5000", ps(phi3=OLD), "fail", "0 from the gateway"),
    ],
)
def test_who_was_connected(peers: str, after: dict[str, Any], verdict: str, words: str) -> None:
    connected, _ = backend(ps(phi3=OLD), after, peers=peers)
    assert connected[0] == verdict
    assert words in connected[1]


@needs_ss
def test_the_watch_sees_each_connection_once_and_ends(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    mark.touch()
    with running() as gateway:
        port = gateway.url.rpartition(":")[2]
        program = ANSIBLE / "roles/hx_acceptance/files/watch-connections"
        command = [str(program), str(mark), port, "30"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:
            with socket.create_connection(("127.0.0.1", int(port))) as connection:
                ours = f"127.0.0.1:{connection.getsockname()[1]}"
                deadline_s = time.monotonic() + 20
                while time.monotonic() < deadline_s and not looked_at(watch.pid):
                    time.sleep(0.05)
            mark.unlink()
            seen, _ = watch.communicate(timeout=20)
    assert seen.splitlines() == [ours]


def looked_at(pid: int) -> bool:
    """Return whether the watch has gone to sleep after its first look."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    grandchildren = [
        Path(f"/proc/{child}/task/{child}/children").read_text().split()
        for child in children
        if Path(f"/proc/{child}").exists()
    ]
    names = [
        Path(f"/proc/{one}/comm").read_text().strip()
        for family in grandchildren
        for one in family
        if Path(f"/proc/{one}/comm").exists()
    ]
    return "sleep" in names


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with running() as gateway:
        yield gateway


INVENTORY = """\
[litellm]
hx-api-server
[llm]
hx-llm01-server
[all:vars]
ansible_connection=local
ansible_become=false
"""


@needs_ss
@pytest.mark.timeout(240)
def test_the_playbook_writes_one_bundle_for_all(player: Player, gateway: Gateway) -> None:
    (player.folder / "hosts.ini").write_text(INVENTORY)
    player.program("systemctl", f"cat <<'EOF'\n{SHOW}EOF\n")
    player.program("journalctl", "echo started\n")
    player.program("hostname", "echo 127.0.0.1\n")
    gateway.faults.add("no_401")
    port = int(gateway.url.rpartition(":")[2])
    played = player.play(
        "acceptance",
        inventory=str(player.folder / "hosts.ini"),
        hx_acceptance_url=gateway.url,
        hx_acceptance_key=KEY,
        hx_acceptance_port=port,
        hx_acceptance_backend_port=port,
        hx_acceptance_evidence=str(player.evidence),
        hx_acceptance_models=["phi3"],
        hx_acceptance_requests=4,
        hx_acceptance_known=["no key=this engine has no better answer", "wrong key=the same"],
        hx_acceptance_engine="another",
    )
    # The stand-in of a gateway listens on loopback, which is the one thing that is wrong with it.
    assert played.rc != 0
    assert played.changed == 0, played.output
    told = f"| port {port} on the LAN | fail | listening on 127.0.0.1 hint: "
    assert told in played.output, played.output
    assert "NO-GO" in played.output, played.output
    assert KEY not in played.output
    folder = only(player.evidence)
    assert holds(folder)
    sections = json.loads((folder / "added.json").read_text())
    found = {f["step"]: f["verdict"] for section in sections for f in section["findings"]}
    # The stand-in answers so fast that its connections may be over between two looks.
    assert found.pop("connections hx-llm01-server") in {"pass", "not measured"}
    assert found == {
        "unit litellm.service": "pass",
        "unit at boot": "pass",
        f"port {port} on the LAN": "fail",
        "served hx-llm01-server": "pass",
    }
    html = (folder / "report.html").read_text()
    own = {
        f["step"]: f["verdict"]
        for f in json.loads((folder / "results.json").read_text())["findings"]
    }
    assert own["no key"] == "known fault"
    for step in [*found, *own]:
        assert f"<td>{step.replace(chr(39), '&#x27;')}</td>" in html
    assert not [p for p in folder.rglob("*") if p.is_file() and KEY in p.read_text()]


@pytest.mark.timeout(240)
def test_without_the_program_nothing_begins(player: Player, gateway: Gateway) -> None:
    (player.folder / "hosts.ini").write_text(INVENTORY)
    played = player.play(
        "acceptance",
        inventory=str(player.folder / "hosts.ini"),
        hx_acceptance_url=gateway.url,
        hx_acceptance_key=KEY,
        hx_acceptance_command="no-such-arriero",
    )
    assert played.rc != 0
    assert "install arriero there, or name" in played.output, played.output
