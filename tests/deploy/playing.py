"""Runs the deployment's playbooks for real on this machine; all that they write is in a folder."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

ANSIBLE = Path(__file__).parents[2] / "deploy/ansible"
PROGRAM = Path(sys.executable).with_name("ansible-playbook")
TIMEOUT_S = 120


def filters(role: str, name: str) -> Mapping[str, Any]:
    """Return the filters of a role's plugin, by name."""
    path = ANSIBLE / "roles" / role / "filter_plugins" / f"{name}.py"
    spec = spec_from_file_location(f"{role}_{name}", path)
    assert spec
    assert spec.loader
    module: ModuleType = module_from_spec(spec)
    spec.loader.exec_module(module)
    known: Mapping[str, Any] = module.FilterModule().filters()
    return known


class Played:
    """What a run of a playbook came to."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.rc = done.returncode
        self.output = done.stdout + done.stderr

    @property
    def changed(self) -> int:
        """How many tasks changed something."""
        return self._count("changed")

    @property
    def failed(self) -> int:
        """How many tasks failed, unreachable hosts included."""
        return self._count("failed") + self._count("unreachable")

    def _count(self, word: str) -> int:
        counts = re.findall(rf"^\S+\s+: .*\b{word}=(\d+)", self.output, re.MULTILINE)
        assert counts, self.output
        return sum(map(int, counts))


class Player:
    """Runs playbooks with a home, a temporary folder and a vault password of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.evidence = folder / "evidence"
        self.programs = folder / "bin"
        self.programs.mkdir()
        self._password = folder / "password"
        self._password.touch(mode=0o600)
        self._password.write_text("a password\n")

    def env(self) -> dict[str, str]:
        """Return the environment of Ansible's programs; ours come before the system's."""
        kept = {name: os.environ[name] for name in ("LANG", "VIRTUAL_ENV") if name in os.environ}
        path = f"{self.programs}:{PROGRAM.parent}:{os.environ['PATH']}"
        return kept | {
            "PATH": path,
            "HOME": str(self.folder),
            "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.folder / ".ansible"),
            "ANSIBLE_NOCOLOR": "1",
            "HX_VAULT_PASSWORD_FILE": str(self._password),
            "LC_ALL": "C.UTF-8",
        }

    def program(self, name: str, script: str) -> None:
        """Put a program before the system's, for what cannot exist on this machine."""
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{script}")
        path.chmod(0o755)

    def play(self, name: str, *words: str, inventory: str = "localhost,", **more: Any) -> Played:
        """Run a playbook, of ours by its name or any by its path, with extra variables."""
        playbook = name if name.endswith(".yml") else f"playbooks/{name}.yml"
        command = [str(PROGRAM), "-i", inventory, playbook]
        command += ["-e", json.dumps(more), *words]
        done = subprocess.run(
            command,
            cwd=ANSIBLE,
            env=self.env(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return Played(done)

    def tool(self, name: str, *words: str) -> None:
        """Run another of Ansible's programs."""
        subprocess.run(
            [PROGRAM.with_name(name), *words],
            cwd=ANSIBLE,
            env=self.env(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=TIMEOUT_S,
        )


def holds(folder: Path) -> bool:
    """Return whether the manifest covers every other file, and every checksum is right."""
    check = ["sha256sum", "--check", "--strict", "--quiet", "manifest.sha256"]
    done = subprocess.run(check, cwd=folder, check=False, capture_output=True)
    lines = (folder / "manifest.sha256").read_text().splitlines()
    listed = {line.partition("  ")[2] for line in lines}
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    return done.returncode == 0 and listed == files - {"manifest.sha256"}


def only(folder: Path) -> Path:
    """Return the one folder in a folder."""
    (child,) = [path for path in folder.iterdir() if path.is_dir()]
    return child


def missing() -> str | None:
    """Return why playbooks cannot be run here, None when they can."""
    needed = [PROGRAM, Path("/usr/bin/python3")]
    gone = [str(path) for path in needed if not shutil.which(str(path))]
    return f"not here: {', '.join(gone)}" if gone else None
