"""The lab's own bridge, with an address for the control node."""

from collections.abc import Iterator
from contextlib import contextmanager

from lab.hosts import CONTROL_ADDRESS, PREFIX, PREFIX_BITS
from lab.journal import Journal
from lab.problems import CannotRun
from lab.shell import Shell

BRIDGE = f"{PREFIX}-br0"


@contextmanager
def bridge(shell: Shell, journal: Journal) -> Iterator[str]:
    """Make the bridge, give its name, and delete it at the end.

    Raises:
        CannotRun: The lab's addresses are somebody else's here.
    """
    route = shell.run(["ip", "-4", "route", "show", "match", CONTROL_ADDRESS]).output
    taken = [line for line in route.splitlines() if line and not line.startswith("default")]
    if taken:
        raise CannotRun(f"{CONTROL_ADDRESS} is routed already: {taken[0]}")
    with journal.keep("link", name=BRIDGE):
        shell.run(["ip", "link", "add", BRIDGE, "type", "bridge"])
        shell.run(["ip", "address", "add", f"{CONTROL_ADDRESS}/{PREFIX_BITS}", "dev", BRIDGE])
        shell.run(["ip", "link", "set", BRIDGE, "up"])
        yield BRIDGE
