"""Where the lab keeps things: nothing of it inside the repository but evidence."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
ANSIBLE = REPOSITORY / "deploy" / "ansible"
EVIDENCE = REPOSITORY / ".evidence" / "lab"


def cache() -> Path:
    """Return the folder that outlives runs: roots of hosts, wheels, the control node's venv.

    It must not lie on an overlay file system, because the hosts' own overlays are made in it.
    """
    named = os.environ.get("ARRIERO_LAB_CACHE")
    return Path(named) if named else Path("/var/cache/arriero-lab")


def run_folder() -> Path:
    """Return the folder of the running lab, of which there is one at a time."""
    return cache() / "run"
