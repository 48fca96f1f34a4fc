"""Model hosts: something that speaks Ollama's API, as the service that Ollama would be.

The short story has the simulated Ollama (`arriero.testing`), the full one a real model
(`arriero.embedded`). Either is started by a program called `ollama`, which takes the address from
`OLLAMA_HOST` as the real one does, so that the drop-ins of the deployment mean something.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import paths
from lab.files import enable, put
from lab.pylayer import venv_layer
from lab.rootfs import Layers
from lab.shell import Shell

VENV = "/opt/ollama"
SOURCE = "/usr/local/lib/model-server"
CACHE = "/var/lib/ollama"
# The names of the specification, which the simulation can have (the second one once it was pulled),
# and the real model's own.
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
    "arriero.testing.ollama"
    f" --model {SIM_MODELS[0]},decode_tps=60 --registry {SIM_MODELS[1]},decode_tps=60"
    f" --pulled {CACHE}/pulled",
    SIM_MODELS,
)
REAL = Kind("model", ("embedded.txt", "weights.txt"), "arriero.embedded", (REAL_MODEL,))


def layer(shell: Shell, layers: Layers, base: Path, kind: Kind) -> Path:
    """Return the layer with the Python packages that this kind of server needs."""
    return venv_layer(shell, layers, base, f"{VENV}-{kind.name}", kind.locks)


def lay(root: Path, kind: Kind) -> None:
    """Lay the service, and this checkout's code, into a host's root."""
    ignore = shutil.ignore_patterns("__pycache__")
    target = root / SOURCE.lstrip("/") / "arriero"
    shutil.copytree(paths.REPOSITORY / "src" / "arriero", target, ignore=ignore)
    program = PROGRAM.format(
        source=SOURCE, cache=CACHE, venv=f"{VENV}-{kind.name}", command=kind.command
    )
    put(root, "/usr/local/bin/ollama", program, 0o755)
    put(root, "/etc/systemd/system/ollama.service", UNIT)
    enable(root, "ollama.service")
