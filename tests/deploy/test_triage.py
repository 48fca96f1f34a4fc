"""The triage on real folders, with real vaults: moved, judged, undone."""

import json
from pathlib import Path

import pytest
from tests.deploy.playing import Played, Player, filters, holds, only

# A playbook takes seconds, and more of them on a busy machine.
pytestmark = pytest.mark.timeout(300)

SECRET = "sk-never-to-be-seen-0123456789"


@pytest.fixture
def repository(player: Player) -> Path:
    root = player.folder / "repository"
    for name in ("inventories", "group_vars/all", "roles/one/templates", "playbooks"):
        (root / name).mkdir(parents=True)
    write_vault(player, root, f"litellm_master_key: {SECRET}\n")
    return root


def write_vault(player: Player, root: Path, content: str) -> None:
    vault = root / "group_vars/all/vault.yml"
    vault.write_text(content)
    player.tool("ansible-vault", "encrypt", str(vault))


def triage(player: Player, root: Path, *words: str) -> Played:
    return player.play(
        "triage",
        *words,
        hx_triage_repository=str(root),
        hx_triage_evidence=str(player.evidence),
    )


def undo(player: Player, root: Path, time: str) -> Played:
    return player.play("triage", hx_triage_repository=str(root), triage_undo=time)


def tree(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_strays_are_moved_and_come_back(player: Player, repository: Path) -> None:
    folder = repository / "group_vars/all"
    (folder / "vault.yml.bad.1").write_text(f"key: {SECRET}")
    (folder / "vault.yml.bak.2").write_bytes((folder / "vault.yml").read_bytes())
    (folder / "vault.yml.bak.2").chmod(0o640)
    before = tree(repository)

    rehearsed = triage(player, repository, "--check", "--diff")
    assert rehearsed.rc == 0, rehearsed.output
    assert rehearsed.changed > 0
    assert tree(repository) == before
    assert "stray vaults     pending  group_vars/all/vault.yml.bad.1" in rehearsed.output

    moved = triage(player, repository)
    assert moved.rc == 0, moved.output
    assert SECRET not in moved.output + rehearsed.output
    assert [path.name for path in folder.iterdir()] == ["vault.yml"]
    quarantine = only(repository / "_quarantine")
    assert quarantine.stat().st_mode & 0o077 == 0
    entries = json.loads((quarantine / "manifest.json").read_text())
    assert [Path(entry["from"]).name for entry in entries] == ["vault.yml.bad.1", "vault.yml.bak.2"]
    assert all(Path(entry["to"]).stat().st_mode & 0o077 == 0 for entry in entries)
    assert f"-e triage_undo={quarantine.name}" in moved.output

    again = triage(player, repository)
    assert (again.rc, again.changed) == (0, 0)
    evidence = [folder for folder in player.evidence.iterdir() if holds(folder)]
    assert len(evidence) == len(list(player.evidence.iterdir()))
    assert "group_vars/all/vault.yml" in (evidence[0] / "tree.txt").read_text().splitlines()
    files = [path for folder in evidence for path in folder.iterdir()]
    assert not [path for path in files if SECRET in path.read_text()]

    copy = Path(entries[0]["to"])
    copy.write_text("something else")
    refused = undo(player, repository, quarantine.name)
    assert refused.rc != 0
    assert "was changed since; nothing" in refused.output
    assert copy.exists()

    copy.write_text(f"key: {SECRET}")
    undone = undo(player, repository, quarantine.name)
    assert undone.rc == 0, undone.output
    assert tree(repository) == before
    assert (folder / "vault.yml.bak.2").stat().st_mode & 0o777 == 0o640
    assert not quarantine.exists()


def test_a_plain_vault_is_refused(player: Player, repository: Path) -> None:
    (repository / "group_vars/all/vault.yml").write_text(f"litellm_master_key: {SECRET}\n")
    refused = triage(player, repository)
    assert refused.rc != 0
    assert "vault encrypted: found plain text" in refused.output
    assert "rotate what was in it" in refused.output
    assert SECRET not in refused.output


def test_the_limit_is_on_the_lines_a_person_would_read(player: Player, repository: Path) -> None:
    # A single line of 8 kB makes hundreds of encrypted ones, and 31 short lines make twelve.
    write_vault(player, repository, "".join(f"k{n}: v\n" for n in range(31)))
    refused = triage(player, repository)
    assert refused.rc != 0
    assert "found 31 lines; expected at most 30 lines" in refused.output


def test_no_such_quarantine(player: Player, repository: Path) -> None:
    refused = undo(player, repository, "20250131T235959Z")
    assert refused.rc != 0
    assert "was it put back already?" in refused.output


KNOWN = filters("hx_triage", "hx_triage")
ORDER = {
    "moved": [],
    "planned": [],
    "vaults": ["group_vars/all/vault.yml"],
    "vault": "group_vars/all/vault.yml",
    "header": "$ANSIBLE_VAULT;1.1;AES256",
    "lines": 3,
    "lines_max": 30,
    "folders": ["inventories", "group_vars", "roles", "playbooks"],
    "templates": True,
}


@pytest.mark.parametrize(
    ("fact", "value", "check", "verdict", "found"),
    [
        ("vaults", [], "one vault", "fail", "none"),
        ("vaults", ["a/vault.yml", "b/vault.yml"], "one vault", "fail", "a/vault.yml, b/vault.yml"),
        ("header", None, "vault encrypted", "fail", "no file"),
        ("header", "litellm_master_key: sk-secret", "vault encrypted", "fail", "plain text"),
        ("lines", 30, "vault length", "pass", "30 lines"),
        ("lines", 31, "vault length", "fail", "31 lines"),
        ("lines", -1, "vault length", "unknown", "it cannot be decrypted"),
        ("lines_max", 0, "vault length", "skipped", "hx_triage_vault_lines_max is 0"),
        ("folders", ["roles"], "skeleton", "fail", "missing: inventories, group_vars, playbooks"),
        ("templates", False, "skeleton", "fail", "missing: templates"),
        ("planned", ["x.bad"], "stray vaults", "pending", "x.bad"),
    ],
)
def test_judgements(fact: str, value: object, check: str, verdict: str, found: str) -> None:
    order = {f["check"]: f for f in KNOWN["hx_triage_findings"](ORDER)}
    assert {f["verdict"] for f in order.values()} == {"pass"}
    told = {f["check"]: f for f in KNOWN["hx_triage_findings"](ORDER | {fact: value})}
    assert (told[check]["verdict"], told[check]["found"]) == (verdict, found)
    others = {name for name in order if told[name]["verdict"] != "pass"}
    assert others <= {check}
