"""A control group of its own for each machine.

Machines that are not registered share the group of whoever started them, and then a service that
stops on one host takes the processes of the service of that name on the others with it.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lab.journal import Journal

TOP = Path("/sys/fs/cgroup")
# Where systemd keeps its groups: version 2 alone, version 1, and version 2 beside version 1.
HIERARCHIES = (TOP, TOP / "systemd", TOP / "unified")


@contextmanager
def own_group(journal: Journal, name: str) -> Iterator[list[str]]:
    """Make the groups; give the words that start a command in them; remove them at the end."""
    with ExitStack() as stack:
        entrances = []
        for top in HIERARCHIES:
            if (top / "cgroup.procs").is_file():
                folder = top / name
                stack.enter_context(journal.keep("cgroup", path=str(folder)))
                folder.mkdir(exist_ok=True)
                entrances.append(str(folder / "cgroup.procs"))
        yield entering(entrances)


def entering(entrances: Sequence[str]) -> list[str]:
    """Return the words before a command that let it enter these groups first."""
    script = 'while [ "$1" != -- ]; do echo $$ >"$1"; shift; done; shift; exec "$@"'
    return ["/bin/sh", "-ec", script, "enter", *entrances, "--"]
