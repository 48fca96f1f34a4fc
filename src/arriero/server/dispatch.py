"""Gives freed slots to those who wait for them.

A lease that is released tells here which station has room; the requests that get it are resumed a
moment later, in one callback of the loop, whatever number of leases ended at once. Capacity also
appears without a release, as when a host comes back or a model was pulled, so the sweep looks at
all that is waited for, too.
"""

import asyncio
from typing import Protocol

from arriero.base.clock import Clock
from arriero.base.errors import QueueTimeout
from arriero.core.admission import Queue
from arriero.core.claims import Claims
from arriero.core.line import Lane, Ticket
from arriero.core.roster import Roster, Station
from arriero.core.routing import askable, may_go, open_mask
from arriero.telemetry.counters import Counters

LOOK_AGAIN_S = 0.025  # a little longer than a slot is kept for a worker


class Waiter(Protocol):
    """The exchange, as the queue sees it."""

    def resume(self, value: object) -> None:
        """Go on: the value is a `Turn`."""
        ...

    def throw(self, error: Exception) -> None:
        """Give up."""
        ...


class Turn:
    """What ends a wait in the queue: the request's turn has come.

    `company` are requests that are to be answered together with it; empty, as for most, it goes
    alone. It comes without a charge when no host is left to wait for.
    """

    __slots__ = ("company",)

    def __init__(self, company: list[Ticket]) -> None:
        self.company = company


_ALONE = Turn([])


class Waiting:
    """What an exchange is doing while its ticket waits."""

    __slots__ = ("_queue", "_ticket")

    def __init__(self, queue: Queue, ticket: Ticket) -> None:
        self._queue = queue
        self._ticket = ticket

    def sweep(self, now_s: float) -> None:
        """The dispatcher looks after deadlines."""

    def pause(self) -> None:
        """Nothing arrives while it waits."""

    def unpause(self, now_s: float) -> None:
        """Nothing was held back."""

    def cancel(self) -> None:
        """The client is gone, or the request's time is over."""
        self._queue.leave(self._ticket)


class Dispatcher:
    """Hands the queue's tickets to stations."""

    __slots__ = (
        "_clock", "_counters", "_freed", "_looks_again", "_roster", "_scheduled", "queue",
    )  # fmt: skip

    def __init__(self, queue: Queue, clock: Clock, counters: Counters, roster: Roster) -> None:
        self.queue = queue
        self._clock = clock
        self._counters = counters
        self._roster = roster  # the same one for the life of the process
        roster.on_vacant = self._note
        self._freed: dict[Station, None] = {}
        self._scheduled = False
        self._looks_again = False  # soon, at stations that are kept for other workers

    def _note(self, station: Station) -> None:
        """A lease was released."""
        if not self.queue.waiting:
            return
        self._freed[station] = None
        self.wake()

    def wake(self) -> None:
        """Dispatch soon."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._scheduled = False
        freed, self._freed = self._freed, {}
        now_s = self._clock.now_s()
        for station in freed:
            self._fill(station, now_s)
        if self._roster.shared is not None:
            self._tell_others(self._roster.shared)

    def catch_up(self) -> None:
        """Another worker has left us a slot."""
        if self._roster.shared is not None:
            self._roster.shared.catch_up()

    def _tell_others(self, shared: Claims[Station]) -> None:
        """Tell the other workers for what requests wait here, so that slots are left to them.

        A station that is kept for another worker may not be wanted there after all, and nobody
        tells: we look again when its time is over.
        """
        shared.want(self.queue.urgencies())
        if shared.refused and self.queue.waiting and not self._looks_again:
            self._looks_again = True
            asyncio.get_running_loop().call_later(LOOK_AGAIN_S, self._look_again)

    def _look_again(self) -> None:
        self._looks_again = False
        self.catch_up()
        self.wake()

    def look_at(self, ticket: Ticket, now_s: float) -> None:
        """Dispatch soon if there is room for a request that has just joined behind others."""
        if open_mask(ticket.alias, self._roster, now_s) & ~ticket.tried:
            for target in ticket.alias.targets:
                self._note(target.station)
        elif self._roster.shared is not None:
            self.wake()

    def _fill(self, station: Station, now_s: float, lane: Lane | None = None) -> None:
        """Let requests go as long as the station takes any.

        As a last resort also if it is ejected, but then those of this lane alone: what others
        wait for is a host that works.
        """
        queue = self.queue
        while queue.waiting:
            if may_go(station, now_s):
                ticket = queue.next_for(station, now_s)
            elif lane is not None and station.free:
                ticket = queue.next_for(station, now_s, lane)
            else:
                return
            if ticket is None:
                return
            waiting = queue.waiting
            self._go(ticket, now_s)
            if queue.waiting > waiting:
                return  # it found no way after all, and waits again: the sweep will see

    def _go(self, ticket: Ticket, now_s: float) -> None:
        queue = self.queue
        turn = _ALONE
        if ticket.batch is not None:
            most = queue.limits.embedding_batch_max - 1
            company: list[Ticket] = []
            while len(company) < most and (other := queue.companion(ticket, now_s)) is not None:
                company.append(other)
            self._counters.batched_requests += len(company)
            turn = Turn(company)
        waiter_of(ticket).resume(turn)

    def sweep(self, now_s: float) -> None:
        """End what waited too long or in vain, and fill the stations that are open."""
        for ticket in self.queue.expired(now_s):
            self._counters.queue_refused("deadline")
            waiter_of(ticket).throw(self._too_late(ticket, now_s))
        roster = self._roster
        for group, _ in self.queue.demand():  # patience for a loaded host may be at an end
            group.wanted(now_s, roster.available)
        self._fill_all(now_s)
        if roster.shared is not None:
            self._tell_others(roster.shared)

    def _fill_all(self, now_s: float) -> None:
        roster = self._roster
        for lane in self.queue.lanes():
            alias, tried = lane.key
            mask = askable(alias, roster, now_s, tried)
            if mask is None:
                for ticket in lane.tickets():
                    self.queue.leave(ticket)
                    waiter_of(ticket).resume(_ALONE)
            elif mask:
                for target in alias.targets:
                    if target.host.bit & mask:
                        self._fill(target.station, now_s, lane)

    def _too_late(self, ticket: Ticket, now_s: float) -> QueueTimeout:
        return QueueTimeout(
            f"no backend of `{ticket.alias.name}` had a free slot in time",
            retry_after_s=self.queue.retry_after_s(ticket.alias, now_s),
        )


def waiter_of(ticket: Ticket) -> Waiter:
    """Return who is to be told."""
    waiter: Waiter = ticket.waiter  # type: ignore[assignment]  # opaque to the queue
    return waiter
