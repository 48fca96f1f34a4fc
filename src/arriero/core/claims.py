"""What a roster that is not alone asks of whoever counts for all, or tells all.

The roster's stations stand here as a variable: the roster imports this, and not the reverse.
"""

from typing import Protocol, TypeVar

from arriero.core.group import Group

S_contra = TypeVar("S_contra", contravariant=True)

LOOK_INTERVAL_S = 0.002  # within that a host does not become a busy one


class Claims(Protocol[S_contra]):
    """What a gateway of several workers asks besides: see `core.tally`."""

    looked_s: float  # when it last caught up, as far as its caller told

    def claim(self, station: S_contra) -> bool:
        """Have a slot, for a lease that is taken at once; if not, the station is closed for now."""
        ...

    def catch_up(self) -> None:
        """Take over what the others did since the last time."""
        ...

    def want(self, urgencies: dict[Group, int]) -> None:
        """Tell the others for what we wait, so that they give us our share of free slots."""
        ...

    @property
    def refused(self) -> bool:
        """Whether a station is closed until the tally lets us claim, of which nobody tells us."""
        ...


class Telling(Protocol[S_contra]):
    """What tells other gateways where requests went."""

    def hashed(self, parts: tuple[object, ...]) -> int:
        """Return the same for the same parts, at any gateway."""
        ...

    def session(self, name: str) -> str:
        """Return what stands for a conversation's name."""
        ...

    def note(self, station: S_contra, blocks: list[int], session: str) -> None:
        """A request was sent to a station: the blocks of its prompt, its conversation."""
        ...
