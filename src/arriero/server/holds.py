"""Requests that wait because their key or model has enough of them under way already.

A limit on how many run at once refuses nobody: who is over it waits here, first come, first served,
for as long as its class may wait in the queue, and goes to the queue of the backends afterwards.
Where there are several gateways, first come is so at all of them together (`core.permits`).
"""

import asyncio
from collections import deque
from collections.abc import Collection, Iterable
from functools import partial

from arriero.base.errors import QueueTimeout
from arriero.core.meter import Meter, Reservation, Subject
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

    __slots__ = ("_lines", "_places", "_vacant", "waiting")

    def __init__(self) -> None:
        self._vacant: dict[Meter, None] = {}  # to be looked at soon
        self._lines: dict[Meter, deque[Held]] = {}
        self._places: dict[Held, Subject] = {}
        self.waiting: Collection[Held] = self._places  # to ask whether there are any costs no call

    def __len__(self) -> int:
        return len(self._places)

    def enter(self, reservation: Reservation) -> bool:
        """Count the request among those under way, unless it has to wait."""
        lines = self._lines
        for subject in reservation.subjects:
            most = subject.limits.concurrent
            if most is not None and (subject.meter in lines or not subject.meter.has_room(most)):
                return False
        reservation.enter()
        return True

    def join(self, held: Held) -> None:
        """Wait behind those who came before."""
        limited = [one for one in held.reservation.subjects if one.limits.concurrent]
        subject = held.reservation.crowded() or next(
            (one for one in limited if self._lines.get(one.meter)), limited[0]
        )
        self._places[held] = subject
        self._lines.setdefault(subject.meter, deque()).append(held)
        if subject.meter.permits is not None:
            since_s = asyncio.get_running_loop().time()
            go_on = partial(self._vacate, subject.meter)
            subject.meter.permits.wait(held, since_s, go_on)

    def leave(self, held: Held) -> Subject:
        """Wait no longer."""
        subject = self._places.pop(held)
        line = self._lines[subject.meter]
        line.remove(held)
        if not line:
            del self._lines[subject.meter]
        if subject.meter.permits is not None:
            subject.meter.permits.leave(held)
        return subject

    def ended(self, subjects: Iterable[Subject]) -> None:
        """Let those go on for whom there is room now that a request of these was settled."""
        self._vacate(*(subject.meter for subject in subjects))

    def sweep(self) -> None:
        """Look whether there is room that nobody told of; alone, there never is."""

    def _vacate(self, *meters: Meter) -> None:
        """Look by way of the loop whether somebody may go on: a long line must not recurse."""
        if not self._vacant:
            asyncio.get_running_loop().call_soon(self._advance_all)
        self._vacant.update((meter, None) for meter in meters)

    def _advance_all(self) -> None:
        vacant, self._vacant = self._vacant, {}
        for meter in vacant:
            while (held := self._admitted(meter)) is not None:
                held.waiter.resume(None)

    def _admitted(self, meter: Meter) -> Held | None:
        """Let the first of a line enter, if there is room."""
        while line := self._lines.get(meter):
            held = line[0]
            other = held.reservation.crowded()
            if other is not None and other.meter is meter:
                return None
            self.leave(held)
            if other is None:
                held.reservation.enter()
                return held
            self.join(held)  # there is room here, and none at its other subject
        return None
