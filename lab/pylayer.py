"""A layer with a Python environment, installed from a lock by its hashes.

The packages are fetched by this machine's pip, with whatever index and certificates it is set up
for; inside the root they are installed without a network.
"""

import platform
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from lab import paths
from lab.rootfs import SUITE, Layers, digest
from lab.shell import Shell

TIMEOUT_S = 1500.0
# Debian 12 has Python 3.11 and glibc 2.36; wheels of older ones run on it as well.
PYTHON = "3.11"
GLIBC_MINORS = range(36, 11, -1)
# Some projects ask for a later patch release of Python than Debian's, which has its fixes anyway.
PATCH_RELEASES = "--ignore-requires-python"


def venv_layer(shell: Shell, layers: Layers, base: Path, venv: str, locks: Sequence[str]) -> Path:
    """Return the layer that has these locks of `requirements/` installed in `venv`."""
    files = [paths.REPOSITORY / "requirements" / name for name in locks]
    # Not of the base's packages: the environment lies in a folder of its own, upon any Debian of
    # the suite.
    key = digest(SUITE, venv, *(file.read_text(encoding="utf-8") for file in files))

    def make(folder: Path) -> None:
        wheels = folder.with_name(f"{folder.name}.wheels")
        try:
            for file in files:
                _download(shell, file, wheels)
            install = f"--quiet install --no-index --no-deps {PATCH_RELEASES} /mnt/*.whl"
            script = f"python3 -m venv {venv} && {venv}/bin/pip {install}"
            with layers.on_top([base], folder) as root:
                layers.run_in(root, "/bin/bash", "-euc", script, binds=[f"{wheels}:/mnt"])
        finally:
            shutil.rmtree(wheels, ignore_errors=True)

    return layers.get(Path(venv).name, key, make)


def _download(shell: Shell, lock: Path, wheels: Path) -> None:
    machine = platform.machine()
    argv: list[str | Path] = [sys.executable, "-m", "pip", "--quiet", "download", "--no-deps"]
    argv += [PATCH_RELEASES]
    argv += ["--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=cp"]
    argv += [f"--platform=manylinux_2_{minor}_{machine}" for minor in GLIBC_MINORS]
    argv += [f"--platform={name}_{machine}" for name in ("manylinux2014", "linux")]
    argv += ["--require-hashes", "--requirement", lock, "--dest", wheels]
    shell.run(argv, timeout_s=TIMEOUT_S)
