"""Facts about the machine that belong beside every figure."""

import os
import platform
import time
from pathlib import Path

from benchmarks.install import call, system_python

_VERSION = "import platform, sys; print(platform.python_version(), 'of', sys.base_prefix)"


def _field(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return "unknown"
    for line in lines:
        key, _, text = line.replace("=", ":", 1).partition(":")
        if key.strip() == name:
            return text.strip().strip('"')
    return "unknown"


def facts() -> dict[str, str | int]:
    """Return processor, memory, kernel, system and the moment of the run."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count() or 0,
        "memory": _field("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "system": _field("/etc/os-release", "PRETTY_NAME"),
        "python": call([system_python(), "-c", _VERSION]).strip(),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }
