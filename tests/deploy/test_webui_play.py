"""The canary's playbook with a stand-in for `arriero webui`, and evidence fit for an acceptance."""

import json
from pathlib import Path

import msgspec
import pytest
from tests.deploy.playing import Played, Player, holds, only

from arriero.app.smoke.page import Section

pytestmark = pytest.mark.timeout(240)

INVENTORY = "[webui]\nhx-webui-server ansible_connection=local ansible_become=false\n"
PASSWORD = "the administrator's password"
FOUND = {"step": "chats through Open WebUI", "verdict": "pass", "detail": "0 of 3", "hint": None}


def canary(player: Player, said: dict[str, object], rc: int = 0, *words: str) -> Played:
    (player.folder / "hosts.ini").write_text(INVENTORY)
    (player.folder / "said.json").write_text(json.dumps(said, indent=2) + "\n")
    script = f"echo 'a word' >&2\ncat {player.folder}/said.json\nexit {rc}\n"
    player.program("arriero", script)
    return player.play(
        "webui_canary",
        *words,
        inventory=str(player.folder / "hosts.ini"),
        hx_webui_canary_command=str(player.programs / "arriero"),
        hx_webui_canary_url="http://127.0.0.1:1",
        hx_webui_canary_gateway="http://127.0.0.1:1",
        openwebui_admin_email="admin@example.com",
        openwebui_admin_password=PASSWORD,
        litellm_master_key="sk-0123456789abcdef",
        evidence_dir=str(player.evidence),
    )


def bundle(player: Player) -> Path:
    folder = only(player.evidence / "webui")
    assert holds(folder)
    assert not [path for path in folder.iterdir() if PASSWORD in path.read_text()]
    return folder


def test_what_the_watch_found_can_be_added_to_an_acceptance(player: Player) -> None:
    said = {"changes": ["a group"], "done": ["canary"], "watch": [FOUND]}
    played = canary(player, said)
    assert (played.rc, played.changed) == (0, 1), played.output
    folder = bundle(player)
    section = msgspec.json.decode((folder / "findings.json").read_bytes(), type=Section)
    assert section.title == "Open WebUI's canary"
    assert [finding.step for finding in section.findings] == [FOUND["step"]]
    assert json.loads((folder / "result.json").read_text()) == said
    assert (folder / "words.txt").read_text() == "a word\n"


def test_without_a_watch_nothing_is_claimed(player: Player) -> None:
    played = canary(player, {"changes": [], "done": []})
    assert (played.rc, played.changed) == (0, 0), played.output
    assert sorted(path.name for path in bundle(player).iterdir()) == [
        "manifest.sha256", "result.json", "words.txt",
    ]  # fmt: skip


def test_a_canary_that_fails_stops_and_leaves_its_evidence(player: Player) -> None:
    bad = FOUND | {"verdict": "fail", "hint": "arriero webui rollback goes back"}
    played = canary(player, {"changes": [], "watch": [bad]}, rc=1)
    assert played.rc != 0
    assert "arriero webui canary ended with 1" in played.output
    text = (bundle(player) / "findings.json").read_text()
    assert json.loads(text)["findings"] == [bad]
