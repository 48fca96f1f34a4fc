"""What a lab that has ended may have left on this machine: nothing, and this is how one looks."""

from collections.abc import Sequence
from pathlib import Path

from lab import paths
from lab.cgroups import HIERARCHIES
from lab.hosts import PREFIX


def leftovers() -> list[str]:
    """Return mounts, links, control groups and processes of the lab that are still there."""
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    found = [f"mount {at}" for at in mounts_below(mounts, paths.run_folder())]
    for place in (Path("/sys/class/net"), *HIERARCHIES):
        found += [str(path) for path in place.glob(f"*{PREFIX}-*")]
    return found + [f"process {pid}" for pid in machines()]


def mounts_below(lines: Sequence[str], folder: Path) -> list[str]:
    """Return the mount points below a folder, from the lines of /proc/self/mounts."""
    points = [line.split()[1] for line in lines]
    return [point for point in points if Path(point).is_relative_to(folder)]


def machines() -> list[int]:
    """Return the processes that were started as machines of the lab."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:  # it ended while we looked
                continue
            if any(word.startswith(f"--machine={PREFIX}-".encode()) for word in words):
                found.append(int(entry.name))
    return found
