"""Requests that wait because their key or model has enough of them under way already.

A limit on how many run at once refuses nobody: who is over it waits here, first come, first served,
for as long as its class may wait in the queue, and goes to the queue of the backends afterwards.
"""

import asyncio
from collections import deque

from arriero.base.errors import QueueTimeout
from arriero.core.limits import Meter, Reservation, Subject
from arriero.server.dispatch import Waiter

RETRY_AFTER_S = 5  # nobody knows when one of the others ends


class Held:
    """What an exchange is doing while it waits for others of its key to end."""

    __slots__ = ("_deadline_s", "_holds", "reservation", "waiter")

    def __init__(
        self, holds: "Holds", waiter: Waiter, reservation: Reservation, deadline_s: float
    ) -> None:
        self._holds = holds
        self.waiter = waiter
        self.reservation = reservation
        self._deadline_s = deadline_s

    def sweep(self, now_s: float) -> None:
        """Give up when it has lasted too long."""
        if now_s >= self._deadline_s:
            name = self._holds.leave(self).name
            self.waiter.throw(
                QueueTimeout(
                    f"{name} had as many requests under way as it may, all the time",
                    retry_after_s=RETRY_AFTER_S,
                )
            )

    def pause(self) -> None:
        """Nothing arrives while it waits."""

    def unpause(self, now_s: float) -> None:
        """Nothing was held back."""

    def cancel(self) -> None:
        """The client is gone, or the request's time is over."""
        self._holds.leave(self)


class Holds:
    """The lines of those who wait, one for each subject that has no room."""

    __slots__ = ("_lines", "_places", "_vacant")

    def __init__(self) -> None:
        self._vacant: dict[Meter, None] = {}  # to be looked at soon
        self._lines: dict[Meter, deque[Held]] = {}
        self._places: dict[Held, Subject] = {}

    def __len__(self) -> int:
        return len(self._places)

    def enter(self, reservation: Reservation) -> bool:
        """Count the request among those under way, unless it has to wait."""
        if not reservation.may_enter() or any(
            self._lines.get(one.meter) for one in reservation.subjects if one.limits.concurrent
        ):
            return False
        reservation.enter()
        return True

    def join(self, held: Held) -> None:
        """Wait behind those who came before."""
        subject = held.reservation.crowded() or next(
            one for one in held.reservation.subjects if self._lines.get(one.meter)
        )
        self._places[held] = subject
        self._lines.setdefault(subject.meter, deque()).append(held)

    def leave(self, held: Held) -> Subject:
        """Wait no longer."""
        subject = self._places.pop(held)
        line = self._lines[subject.meter]
        line.remove(held)
        if not line:
            del self._lines[subject.meter]
        return subject

    def settle(self, reservation: Reservation, tokens: int) -> None:
        """End a request, and let those go on for whom there is room now."""
        reservation.settle(tokens)
        if not self._lines:
            return
        if not self._vacant:  # by way of the loop: a long line must not recurse
            asyncio.get_running_loop().call_soon(self._advance_all)
        self._vacant.update((subject.meter, None) for subject in reservation.subjects)

    def _advance_all(self) -> None:
        vacant, self._vacant = self._vacant, {}
        for meter in vacant:
            self._advance(meter)

    def _advance(self, meter: Meter) -> None:
        while line := self._lines.get(meter):
            held = line[0]
            other = held.reservation.crowded()
            if other is not None and other.meter is meter:
                return
            self.leave(held)
            if other is not None:
                self.join(held)  # there is room here, and none at its other subject
                continue
            held.reservation.enter()
            held.waiter.resume(None)
