"""A layer with a Python environment, installed from a lock by its hashes.

The packages are fetched by this machine's pip, with whatever index and certificates it is set up
for; inside the root they are installed without a network.
"""

import platform
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from packaging.markers import Marker

from lab import paths
from lab.rootfs import SUITE, Layers, digest
from lab.shell import Shell

TIMEOUT_S = 1500.0
# Debian 12 has Python 3.11 and glibc 2.36; wheels of older ones run on it as well.
PYTHON = "3.11"
PYTHON_FULL = "3.11.2"
GLIBC_MINORS = range(36, 11, -1)
# One pinned package of a lock, its marker, and the rest of the line.
PIN = re.compile(
    r"^(?P<pin>[\w.\[\],-]+==\S+) ; (?P<marker>[^\\\n]+?)(?P<rest> \\)?$", re.MULTILINE
)


def venv_layer(shell: Shell, layers: Layers, base: Path, venv: str, locks: Sequence[str]) -> Path:
    """Return the layer that has these locks of `requirements/` installed in `venv`."""
    files = [paths.REPOSITORY / "requirements" / name for name in locks]
    # Not of the base's packages: the environment lies in a folder of its own, upon any Debian of
    # the suite.
    key = digest(SUITE, PYTHON_FULL, venv, *(file.read_text(encoding="utf-8") for file in files))

    def make(folder: Path) -> None:
        wheels = folder.with_name(f"{folder.name}.wheels")
        try:
            for file in files:
                _download(shell, file, wheels)
            install = "--quiet install --no-index --no-deps /mnt/*.whl"
            script = f"python3 -m venv {venv} && {venv}/bin/pip {install}"
            with layers.on_top([base], folder) as root:
                layers.run_in(root, "/bin/bash", "-euc", script, binds=[f"{wheels}:/mnt"])
        finally:
            shutil.rmtree(wheels, ignore_errors=True)

    return layers.get(Path(venv).name, key, make)


def for_target(lock: str) -> str:
    """Return a lock without the packages that its markers rule out on Debian's Python.

    `pip download` knows of another version of Python to fetch for, but asks the markers of the one
    that runs it: a package wanted below 3.11.3 would be missing on a host that has 3.11.2.
    """
    target = {"python_version": PYTHON, "python_full_version": PYTHON_FULL}
    kept = []
    # A package's hashes stand in indented lines below it.
    for block in re.split(r"\n(?=\S)", lock):
        match = PIN.search(block)
        if match is None:
            kept.append(block)
        elif Marker(match["marker"]).evaluate(target):
            kept.append(PIN.sub(r"\g<pin>\g<rest>", block))
    return "\n".join(kept)


def _download(shell: Shell, lock: Path, wheels: Path) -> None:
    machine = platform.machine()
    wheels.mkdir(exist_ok=True)
    pins = wheels / lock.name
    pins.write_text(for_target(lock.read_text(encoding="utf-8")), encoding="utf-8")
    argv: list[str | Path] = [sys.executable, "-m", "pip", "--quiet", "download", "--no-deps"]
    argv += ["--only-binary=:all:", f"--python-version={PYTHON_FULL}", "--implementation=cp"]
    argv += [f"--platform=manylinux_2_{minor}_{machine}" for minor in GLIBC_MINORS]
    argv += [f"--platform={name}_{machine}" for name in ("manylinux2014", "linux")]
    argv += ["--require-hashes", "--requirement", pins, "--dest", wheels]
    shell.run(argv, timeout_s=TIMEOUT_S)
