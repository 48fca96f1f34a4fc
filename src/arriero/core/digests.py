"""Which weights are served when hosts have different ones under one name.

Theory. The same tag with another digest is another model: other answers, another context, another
prompt template. Chosen by load, users would get either by chance. So one digest is served at a
time, the one that most of the available hosts have; hosts with another one are left out until
they agree, and that is logged. A tie goes to the digest that is being served, then to the first
host of the configuration. When a model is pulled anew on one host after the other, the change
comes once, in the middle. When all hosts of the served digest are away, the others take over: an
answer by other weights is better than none, and it is told.

`digests: mixed` of an alias turns this off, where the difference is known and wanted.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple


class Copy(NamedTuple):
    """One host's copy of a model; an empty digest is not known and agrees with all."""

    digest: str
    available: bool


def served(copies: Sequence[Copy], current: str = "") -> str:
    """Return the digest to serve of copies in the order of the configuration, "" if none is known.

    `current` is the one served until now.
    """
    votes = Counter(copy.digest for copy in copies if copy.digest and copy.available)
    if not votes:
        return current
    most = max(votes.values())
    leaders = [digest for digest, count in votes.items() if count == most]  # in order of the hosts
    return current if current in leaders else leaders[0]


def is_odd(copy: Copy, digest: str) -> bool:
    """Say whether a copy is to be left out while `digest` is served."""
    return bool(copy.digest and digest and copy.digest != digest)
