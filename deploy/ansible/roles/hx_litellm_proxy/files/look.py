"""What there is on the host before anything is changed, as JSON. Reads, and changes nothing.

Sent to the host by standard input; the first argument is JSON: `python`, `port`, `backends`,
`root`, `unit` and `socket`.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request

NO_COMMAND = 127  # as shells say it
COMMAND_TIMEOUT_S = 20
BACKEND_TIMEOUT_S = 10
REPLY_BYTES_MAX = 4_000_000


def run(*argv: str) -> tuple[int, str]:
    """Return the exit code and output of a command; 127 when there is no such command."""
    try:
        done = subprocess.run(  # noqa: S603 - the arguments are ours
            argv, capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return NO_COMMAND, str(error)
    return done.returncode, done.stdout + done.stderr


def interpreter(name: str) -> dict[str, object]:
    """Say which version the interpreter has, and whether it can make virtual environments."""
    code, version = run(name, "-c", "import platform; print(platform.python_version())")
    venv, _ = run(name, "-c", "import ensurepip, venv")
    return {"version": version.strip() if code == 0 else "", "venv": venv == 0}


def disk_free_mb(path: str) -> int:
    """Return the free space where `path` is or will be."""
    while not os.path.exists(path):  # noqa: PTH110 - the host's Python may be old
        path = os.path.dirname(path)  # noqa: PTH120
    return shutil.disk_usage(path).free // 1_000_000


def unit_state(name: str) -> str:
    """Return `active`, `inactive`, `failed`, ... of a unit; `unknown` without systemd."""
    code, state = run("systemctl", "is-active", name)
    return state.strip() if code != NO_COMMAND else "unknown"


def engine_of(unit: str) -> str:
    """Return which engine the installed unit runs."""
    _, text = run("systemctl", "cat", unit)
    found = re.search(r"^X-Engine=(\w+)$", text, re.MULTILINE)
    return found.group(1) if found else ""


def listeners(port: int) -> str:
    """Return who listens on the port, empty when nobody does."""
    code, text = run("ss", "-ltnpH", f"sport = :{port}")
    return text.strip() if code == 0 else ""


def models_of(url: str) -> dict[str, object]:
    """Return the models of an Ollama host, or why it did not tell."""
    try:
        with urllib.request.urlopen(  # noqa: S310 - the address is the inventory's
            f"{url}/api/tags", timeout=BACKEND_TIMEOUT_S
        ) as reply:
            tags = json.loads(reply.read(REPLY_BYTES_MAX))
        return {"error": "", "models": sorted(str(model["name"]) for model in tags["models"])}
    except urllib.error.URLError as error:
        return {"error": str(error.reason), "models": []}
    except (OSError, ValueError, LookupError, TypeError) as error:
        return {"error": f"no Ollama: {error}", "models": []}


def main() -> None:
    """Print what there is."""
    asked = json.loads(sys.argv[1])
    _, systemd = run("systemctl", "--version")
    version = re.search(r"systemd (\d+)", systemd)
    facts = {
        "python": interpreter(asked["python"]),
        "machine": platform.machine(),
        "systemd": int(version.group(1)) if version else 0,
        "disk_free_mb": disk_free_mb(asked["root"]),
        "unit": unit_state(asked["unit"]),
        "socket": unit_state(asked["socket"]),
        "engine": engine_of(asked["unit"]),
        "listeners": listeners(asked["port"]),
        "backends": {url: models_of(url) for url in asked["backends"]},
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
