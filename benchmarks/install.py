"""Install everything a run needs below `benchmarks/.work`, and say why when something cannot be.

Every installer answers with `Installed` or raises `NotInstalled`; the second one becomes a line
of the report, so a peer never disappears silently.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from benchmarks.paths import NATIVE, ROOT, WORK

INSTALL_TIMEOUT_S = 900
APT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NotInstalled(Exception):
    """Something could not be installed; the message is for people."""


@dataclass(frozen=True)
class Installed:
    """A program that is there: its path, its version and whatever else is worth recording."""

    program: Path
    version: str
    facts: Mapping[str, str | bool] = field(default_factory=dict)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _last_words(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return " | ".join(lines[-3:]) or "no output"


def call(argv: Sequence[str | Path], cwd: Path | None = None) -> str:
    """Run an installer's step and return its output; failure raises `NotInstalled`."""
    command = [str(part) for part in argv]
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise NotInstalled(f"{command[0]}: {problem}") from problem
    if done.returncode != 0:
        raise NotInstalled(f"{Path(command[0]).name} failed: {_last_words(done.stdout)}")
    return done.stdout


@cache
def system_python() -> Path:
    """Return the interpreter that Python gateways run on: Debian's, as a deployment's would.

    It is built with profile feedback, which one that pyenv compiled here need not be: a difference
    of up to a fifth. Without it, the interpreter of this command serves.
    """
    python = Path("/usr/bin/python3")
    try:
        _at_least_311(python)
        ensurepip = subprocess.run(
            [python, "-m", "ensurepip", "--version"], capture_output=True, check=False
        )
        if ensurepip.returncode != 0:
            _apt_install("python3-venv")
    except NotInstalled as problem:
        say(f"no system Python: {problem}")
        return Path(sys.executable)
    return python


def _at_least_311(python: Path) -> None:
    version = call([python, "-c", "import sys; print(*sys.version_info[:2])"]).split()
    if tuple(int(part) for part in version) < (3, 11):
        raise NotInstalled(f"{python} is version {'.'.join(version)}, and 3.11 is needed")


def _stale(venv: Path, stamp: str) -> bool:
    """Say whether a venv must be made again: another version, or another interpreter."""
    noted = venv / "installed"
    return not noted.exists() or noted.read_text() != f"{stamp} {system_python()}"


def _note(venv: Path, stamp: str) -> None:
    (venv / "installed").write_text(f"{stamp} {system_python()}")


def pip_package(package: str, version: str, script: str, extras: str = "") -> Installed:
    """Install one PyPI package into a venv of its own; nothing is done when it is there."""
    venv = WORK / "venvs" / package
    program = venv / "bin" / script
    if _stale(venv, version):
        say(f"installing {package} {version}")
        shutil.rmtree(venv, ignore_errors=True)
        call([system_python(), "-m", "venv", venv])
        call([venv / "bin" / "pip", "install", "--quiet", f"{package}{extras}=={version}"])
        _note(venv, version)
    return Installed(program, version)


def npm_package(package: str, version: str, entry: str, overrides: Mapping[str, str]) -> Installed:
    """Install one npm package into a folder of its own; `overrides` pins what it depends on."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        raise NotInstalled("node and npm are not on PATH (hint: apt-get install nodejs npm)")
    folder = WORK / "npm" / package.replace("/", "+")
    script = folder / "node_modules" / package / entry
    stamp = folder / "installed"
    wanted = json.dumps({"dependencies": {package: version}, "overrides": dict(overrides)})
    if not (stamp.exists() and stamp.read_text() == wanted):
        say(f"installing {package} {version}")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "package.json").write_text(wanted)
        call(["npm", "install", "--no-audit", "--no-fund"], cwd=folder)
        stamp.write_text(wanted)
    return Installed(Path(node), version, {"script": str(script)})


def debian_package(package: str) -> Installed:
    """Find a Debian package's program, or install it when we are root."""
    found = shutil.which(package, path=APT_PATH)
    if found is None:
        _apt_install(package)
        found = shutil.which(package, path=APT_PATH)
    if found is None:
        raise NotInstalled(f"{package} was installed but is not on PATH")
    return Installed(Path(found), _debian_version(package))


def _debian_version(package: str) -> str:
    try:
        return call(["dpkg-query", "-W", "-f=${Version}", package]).strip()
    except NotInstalled:
        return "not from a package"


def _apt_install(package: str) -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NotInstalled(f"{package} is missing (hint: sudo apt-get install {package})")
    say(f"installing the Debian package {package}")
    # A package that brings a service starts it at once, unless this policy forbids it. The
    # benchmark starts its own instances and wants no other on the machine.
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        call(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package])
    finally:
        if ours:
            policy.unlink()


def c_program(name: str) -> Installed:
    """Compile one of our two C programs, again whenever its source is newer."""
    source = NATIVE / f"{name}.c"
    program = WORK / "bin" / name
    compiler = shutil.which("cc")
    if compiler is None:
        raise NotInstalled("no C compiler (hint: apt-get install gcc libc6-dev)")
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        program.parent.mkdir(parents=True, exist_ok=True)
        call([compiler, "-O2", "-Wall", "-Wextra", "-o", program, source])
    return Installed(program, "ours")


def arriero(*, worktree: bool, name: str = "arriero") -> Installed:
    """Install arriero from the committed tree (or, when asked, from the files as they are).

    `name` is that of the environment: who measures something else has one of their own.
    """
    commit = call(["git", "rev-parse", "HEAD"], cwd=ROOT).strip()
    dirty = bool(call(["git", "status", "--porcelain"], cwd=ROOT).strip())
    venv = WORK / "venvs" / name
    if worktree or _stale(venv, commit):
        say(f"installing arriero from {'the working tree' if worktree else commit[:12]}")
        source = ROOT if worktree else _checkout(commit)
        _arriero_venv(venv, source)
        _note(venv, "worktree" if worktree else commit)
    version = call([venv / "bin" / "python", "-c", _VERSION]).strip()
    source_name = "working tree" if worktree else "committed tree"
    facts: dict[str, str | bool] = {"commit": commit, "dirty": dirty, "source": source_name}
    return Installed(venv / "bin" / "arriero", version, facts)


_VERSION = "from importlib.metadata import version; print(version('arriero'))"


def _checkout(commit: str) -> Path:
    """Unpack a commit: what is measured is then exactly what the commit id names."""
    folder = WORK / "arriero-source"
    shutil.rmtree(folder, ignore_errors=True)
    archive = subprocess.run(
        ["git", "archive", "--format=tar", commit], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def _arriero_venv(venv: Path, source: Path) -> None:
    shutil.rmtree(venv, ignore_errors=True)
    call([system_python(), "-m", "venv", venv])
    pip: list[str | Path] = [venv / "bin" / "pip", "install", "--quiet"]
    lock = source / "requirements" / "lock.txt"
    if lock.exists():
        call([*pip, "--require-hashes", "-r", lock])
        call([*pip, "--no-deps", source])
    else:
        call([*pip, source])
