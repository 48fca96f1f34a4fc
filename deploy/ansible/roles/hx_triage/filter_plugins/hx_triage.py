"""What the triage makes of a repository: where strays go, and whether the rest is in order.

`findings` takes facts about the repository and returns findings as hx_evidence has them.
"""

import os.path
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Finding = dict[str, str]

VAULT_HEADER = "$ANSIBLE_VAULT;"
SKELETON = ("inventories", "group_vars", "roles", "playbooks")


def entries(files: Iterable[Mapping[str, Any]], repository: str, into: str) -> list[dict[str, str]]:
    """Return what is to be moved, as the quarantine's manifest records it."""
    return [
        {
            "from": file["path"],
            "to": str(Path(into, "files", os.path.relpath(file["path"], repository))),
            "sha256": file["checksum"],
            "mode": f"{stat.S_IMODE(int(str(file['mode']), 8)):04o}",
        }
        for file in sorted(files, key=lambda file: str(file["path"]))
    ]


def lines(content: str) -> int:
    """Return how many lines a person would read, blank ones and comments too."""
    return len(content.splitlines())


def findings(facts: Mapping[str, Any]) -> list[Finding]:
    """Judge a repository.

    `facts`: `moved` and `planned` (lists of paths of strays), `vaults` (paths), `vault` (the one
    wanted), `header` (its first line, None when there is none), `lines` (of its decrypted content,
    negative when it cannot be decrypted), `lines_max`, `folders` and `templates` (what there is).
    """
    return [_strays(facts), _one_vault(facts), _encrypted(facts), _length(facts), _skeleton(facts)]


def _finding(check: str, verdict: str, expected: str, found: str, mend: str = "") -> Finding:
    return {"check": check, "verdict": verdict, "expected": expected, "found": found, "mend": mend}


def _strays(facts: Mapping[str, Any]) -> Finding:
    moved, planned = facts["moved"], facts["planned"]
    found = f"moved to the quarantine: {', '.join(moved)}" if moved else "none"
    return _finding(
        "stray vaults",
        "pending" if planned else "pass",
        "none",
        ", ".join(planned) if planned else found,
        "run it without --check, and they move to the quarantine",
    )


def _one_vault(facts: Mapping[str, Any]) -> Finding:
    vaults = facts["vaults"]
    return _finding(
        "one vault",
        "pass" if vaults == [facts["vault"]] else "fail",
        facts["vault"],
        ", ".join(vaults) or "none",
        f"ansible-vault create {facts['vault']} (see vault.example.yml)"
        if not vaults
        else f"put all secrets into {facts['vault']}",
    )


def _encrypted(facts: Mapping[str, Any]) -> Finding:
    header = facts["header"]
    encrypted = header is not None and header.startswith(VAULT_HEADER)
    found = "no file" if header is None else header if encrypted else "plain text"
    return _finding(
        "vault encrypted",
        "pass" if encrypted else "fail",
        f"a first line that begins with {VAULT_HEADER}",
        found,  # never the first line of a plain one, which may be a secret
        "ansible-vault encrypt it, and rotate what was in it: it has been readable"
        if header is not None
        else f"ansible-vault create {facts['vault']}",
    )


def _length(facts: Mapping[str, Any]) -> Finding:
    lines, lines_max = facts["lines"], facts["lines_max"]
    if not lines_max:
        return _finding("vault length", "skipped", "", "hx_triage_vault_lines_max is 0")
    if lines < 0:
        return _finding(
            "vault length",
            "unknown",
            f"at most {lines_max} lines when decrypted",
            "it cannot be decrypted",
            "give the vault's password, as vault-password in this folder explains",
        )
    return _finding(
        "vault length",
        "pass" if lines <= lines_max else "fail",
        f"at most {lines_max} lines when decrypted",
        f"{lines} lines",
        "keep secrets alone in it; everything else belongs into main.yml beside it",
    )


def _skeleton(facts: Mapping[str, Any]) -> Finding:
    missing = [name for name in SKELETON if name not in facts["folders"]]
    missing += [] if facts["templates"] else ["templates"]
    return _finding(
        "skeleton",
        "fail" if missing else "pass",
        f"{', '.join(SKELETON)}, and templates there or in a role",
        f"missing: {', '.join(missing)}" if missing else "complete",
        "is this the folder of the deployment? hx_triage_repository names another",
    )


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "hx_triage_entries": entries,
            "hx_triage_findings": findings,
            "hx_triage_lines": lines,
        }
