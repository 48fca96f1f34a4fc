"""How the running service is confined, as JSON: what the kernel says of its process, not the unit.

Sent to the host by standard input; the first argument is the unit's name. A misspelt line of a unit
is silently ignored, so that only the process itself can tell.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

COMMAND_TIMEOUT_S = 60
DEVICE = re.compile(r"(sd|vd|nvme|mem|kmsg)")  # disks, memory, the kernel's log


def run(*argv: str) -> str:
    """Return the output of a command."""
    done = subprocess.run(  # noqa: S603 - the arguments are ours
        argv, capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT_S
    )
    return done.stdout


def status_of(pid: str) -> dict[str, str]:
    """Return the fields of /proc/PID/status."""
    text = pathlib.Path("/proc", pid, "status").read_text(encoding="utf-8")
    return dict(re.findall(r"^(\w+):\s*(.*)$", text, re.MULTILINE))


def mounts_of(pid: str) -> dict[str, str]:
    """Return the options of each mount that the process sees; the last one on a place counts."""
    lines = pathlib.Path("/proc", pid, "mountinfo").read_text(encoding="utf-8").splitlines()
    return {line.split()[4]: line.split()[5] for line in lines}


def writable(mounts: dict[str, str]) -> list[str]:
    """Return the places that are mounted for writing, but for those that belong to no disk."""
    own = ("/proc", "/dev", "/tmp", "/var/tmp", "/run", "/sys")  # noqa: S108 - places, not files
    return sorted(
        place
        for place, options in mounts.items()
        if "rw" in options.split(",") and not place.startswith(own)
    )


def inside(pid: str, place: str) -> list[str]:
    """Return what the process finds in a folder."""
    try:
        return sorted(os.listdir(f"/proc/{pid}/root{place}"))  # noqa: PTH208 - a plain list
    except OSError:
        return []


def exposure(unit: str) -> float:
    """Return the overall exposure that systemd computes of the loaded unit; 10.0 when unknown."""
    found = re.search(
        r"exposure level for \S+ ([0-9.]+)", run("systemd-analyze", "security", "--no-pager", unit)
    )
    return float(found.group(1)) if found else 10.0


def main() -> None:
    """Print how it is."""
    unit = sys.argv[1]
    pid = run("systemctl", "show", "--property=MainPID", "--value", unit).strip()
    status = status_of(pid)
    mounts = mounts_of(pid)
    command = pathlib.Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ")
    print(json.dumps({
        "pid": int(pid),
        "uid": int(status["Uid"].split()[1]),
        "groups": status["Groups"].split(),
        "capabilities": {name: status[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")},
        "no_new_privileges": status["NoNewPrivs"] == "1",
        "seccomp": int(status["Seccomp"]),
        "root": mounts.get("/", ""),
        "writable": writable(mounts),
        "home": inside(pid, "/home") + inside(pid, "/root"),
        "devices": [name for name in inside(pid, "/dev") if DEVICE.match(name)],
        "command": command.decode("utf-8", "replace").strip(),
        "exposure": exposure(unit),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
