"""What a gateway asks of the place where all gateways meet, whatever keeps it."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from arriero.core.hints import Hint
from arriero.core.others import State
from arriero.core.shares import Grant


class PeersUnavailable(Exception):
    """The place cannot be reached or used now."""


class PeersUnusable(Exception):
    """The gateway cannot even try to reach the place; `hint` is the way out."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Heard(msgspec.Struct, frozen=True, array_like=True):
    """What is known there: its clock (Unix seconds), grants, the others' names and states.

    `pressing` are the names of limits for whose permits somebody waits; `hints` is what the others
    told since they were heard last, the oldest first.
    """

    now_s: float
    grants: list[Grant]
    others: list[tuple[str, str]]
    pressing: list[str]
    hints: list[str]
    last: str  # the place's own number of the last hint


class Fleet(Protocol):
    """The hosts as this gateway and the others see them."""

    def state(self) -> State:
        """Return what this gateway has on the hosts."""
        ...

    def hear(self, states: list[State], rank: int, now_s: float) -> None:
        """Take over what the others have; `rank` is this gateway's among them, from 0."""
        ...

    def hints(self) -> list[Hint]:
        """Return, once, where requests were sent to lately."""
        ...

    def heed(self, hints: list[Hint]) -> None:
        """Take over where the others sent theirs."""
        ...


class Board(Protocol):
    """The place. One question is asked at a time; all raise PeersUnavailable."""

    name: str  # of this gateway, different at each

    async def exchange(
        self, names: Sequence[str], claims: Sequence[msgspec.Struct], state: str, hints: str
    ) -> Heard:
        """Tell this gateway's state, which counts for a second, and claim of the limits named.

        `hints` is for the others to hear once, "" for nothing.
        """
        ...

    async def close(self) -> None:
        """Take this gateway's state away, and let go."""
        ...
