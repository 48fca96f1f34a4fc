"""The queue against a naive one that looks at everything, every time."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from tests.core.queueing import fleet_of, station, ticket

from arriero.base.errors import QueueFull
from arriero.config.settings import Queueing
from arriero.core.admission import Queue
from arriero.core.ask import Priority
from arriero.core.fairness import Charge
from arriero.core.fleet import Alias
from arriero.core.line import Ticket
from arriero.core.roster import Station

LIMITS = Queueing(
    length_max=12,
    per_principal_max=5,
    ageing_s=10.0,
    interactive_deadline_s=60.0,
    default_deadline_s=50.0,
    embedding_deadline_s=25.0,
    background_deadline_s=45.0,
)
DEADLINES_S = (60.0, 50.0, 25.0, 45.0)


class Counters:
    """VTC's counters, said again without regard to speed."""

    def __init__(self) -> None:
        self.counter: dict[str, int] = {}
        self.turn: dict[str, int] = {}
        self.floor = 0
        self.turns = 0

    def of(self, who: str) -> int:
        return self.counter.setdefault(who, self.floor)

    def lift(self, who: str, level: int) -> None:
        self.counter[who] = max(self.of(who), level)

    def serve(self, who: str, cost: int) -> None:
        self.turns += 1
        self.turn[who] = self.turns
        self.floor = max(self.floor, self.of(who))
        self.counter[who] += cost


class Waiting:
    """One waiting request of the naive queue."""

    def __init__(self, ticket: Ticket, now_s: float, number: int, *, returned: bool) -> None:
        self.ticket = ticket
        self.who = ticket.ask.principal
        self.came_as = self.priority = ticket.ask.priority
        self.joined_s = self.moved_s = now_s
        self.number = number
        self.returned = returned

    @property
    def lane(self) -> tuple[Any, ...]:
        return (self.ticket.alias, self.ticket.tried, self.priority)


class Naive:
    """A list, looked through from end to end."""

    def __init__(self) -> None:
        self.waiting: list[Waiting] = []
        self.counters: dict[tuple[int, Priority], Counters] = {}
        self.number = 0

    def ledger(self, alias: Alias, priority: Priority) -> Counters:
        return self.counters.setdefault((alias.cell, priority), Counters())

    def stand(self, one: Waiting) -> None:
        """Put it in the class it has."""
        ledger = self.ledger(one.ticket.alias, one.priority)
        ledger.of(one.who)
        there = [other for other in self.waiting if other.lane == one.lane and not other.returned]
        if not one.returned and one.who not in {other.who for other in there}:
            lowest = min((ledger.of(other.who) for other in there), default=ledger.floor)
            ledger.lift(one.who, lowest)
        self.number += 1
        one.number = self.number
        self.waiting.append(one)

    def join(self, ticket: Ticket, now_s: float) -> None:
        self.stand(Waiting(ticket, now_s, 0, returned=ticket.charge is not None))

    def pass_time(self, now_s: float) -> list[Ticket]:
        late = [one for one in self.waiting if now_s >= one.joined_s + DEADLINES_S[one.came_as]]
        self.waiting = [one for one in self.waiting if one not in late]
        for priority in (Priority.DEFAULT, Priority.EMBEDDING, Priority.BACKGROUND):
            old = [
                one
                for one in self.waiting
                if one.priority is priority and now_s >= one.moved_s + LIMITS.ageing_s
            ]
            for one in sorted(old, key=lambda one: one.number):
                self.waiting.remove(one)
                one.priority = Priority(priority - 1)
                one.moved_s = now_s
                self.stand(one)
        return [one.ticket for one in sorted(late, key=lambda one: (one.came_as, one.joined_s))]

    def next_for(self, at: Station) -> Ticket | None:
        able = [one for one in self.waiting if self.may_go(one, at)]
        if not able:
            return None
        best = min(able, key=self.due)
        self.serve(best)
        return best.ticket

    def may_go(self, one: Waiting, at: Station) -> bool:
        stations = [
            target.station
            for target in one.ticket.alias.targets
            if not target.host.bit & one.ticket.tried
        ]
        return at in stations

    def due(self, one: Waiting) -> tuple[int, ...]:
        ledger = self.ledger(one.ticket.alias, one.priority)
        if one.returned:
            return (one.priority, -1, 0, one.number)
        return (one.priority, ledger.of(one.who), ledger.turn.get(one.who, 0), one.number)

    def serve(self, one: Waiting) -> None:
        self.waiting.remove(one)
        if not one.returned:
            ledger = self.ledger(one.ticket.alias, one.priority)
            ledger.serve(one.who, one.ticket.cost)


class QueueMachine(RuleBasedStateMachine):
    """Join, leave, serve, return, settle and let time pass, in any order."""

    served = Bundle("served")

    def __init__(self) -> None:
        super().__init__()
        self.fleet = fleet_of(one="ab", two="bc", solo="d", none="a")
        self.queue = Queue(LIMITS)
        self.naive = Naive()
        self.now_s = 0.0
        self.late: list[Ticket] = []
        self.ledger_of: dict[int, tuple[Counters, str]] = {}

    @rule(
        alias=st.sampled_from(["one", "two", "solo", "none"]),
        who=st.sampled_from("pqr"),
        priority=st.sampled_from(Priority),
        cost=st.integers(0, 50),
    )
    def join(self, alias: str, who: str, priority: Priority, cost: int) -> None:
        new = ticket(self.fleet.aliases[alias], who, priority=priority, cost=cost)
        mine = sum(one.who == who for one in self.naive.waiting)
        if mine >= LIMITS.per_principal_max or len(self.naive.waiting) >= LIMITS.length_max:
            with pytest.raises(QueueFull) as caught:
                self.queue.join(new, self.now_s)
            full = "principal" if mine >= LIMITS.per_principal_max else "length"
            assert caught.value.reason == full
            assert caught.value.retry_after_s is not None
            assert 1 <= caught.value.retry_after_s <= 60
            return
        self.queue.join(new, self.now_s)
        self.naive.join(new, self.now_s)

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        if self.naive.waiting:
            one = data.draw(st.sampled_from(self.naive.waiting))
            self.queue.leave(one.ticket)
            self.queue.leave(one.ticket)  # twice is no mistake
            self.naive.waiting.remove(one)

    @rule(target=served, host=st.sampled_from("abcd"), model=st.sampled_from(["m:1", "n:1"]))
    def serve(self, host: str, model: str) -> Ticket | None:
        if model not in self.fleet.hosts[host].stations:
            return None
        at = station(self.fleet, host, model)
        self.late += self.naive.pass_time(self.now_s)
        expected = self.naive.next_for(at)
        got = self.queue.next_for(at, self.now_s)
        assert got is expected
        return got

    @rule(again=consumes(served), host=st.sampled_from("abcd"))
    def come_back(self, again: Ticket | None, host: str) -> None:
        if again is not None:
            again.tried |= self.fleet.hosts[host].bit
            self.queue.join(again, self.now_s)
            self.naive.join(again, self.now_s)

    @rule(done=consumes(served), cost=st.integers(0, 200))
    def settle(self, done: Ticket | None, cost: int) -> None:
        if done is None:
            return
        charge = done.charge
        assert isinstance(charge, Charge)
        for (cell, priority), counters in self.naive.counters.items():
            cells = self.queue._cells[cell]
            if charge.account in cells.ledgers[priority].accounts.values():
                counters.counter[done.ask.principal] += cost - charge.cost
        charge.settle(cost)

    @rule(step_s=st.sampled_from([0.0, 1.0, 5.0, 10.0, 26.0]))
    def wait(self, step_s: float) -> None:
        self.now_s += step_s

    @rule()
    def look_at_deadlines(self) -> None:
        self.late += self.naive.pass_time(self.now_s)
        assert set(self.queue.expired(self.now_s)) == set(self.late)
        self.late = []

    @rule()
    def somebody_late_leaves(self) -> None:
        if self.late:
            gone = self.late.pop()
            self.queue.leave(gone)

    @invariant()
    def the_counts_agree(self) -> None:
        waiting = self.naive.waiting
        overdue = self.queue.waiting - len(waiting)
        assert overdue == 0
        came_as = [one.came_as for one in waiting]
        assert self.queue.depths() == tuple(came_as.count(priority) for priority in Priority)
        lanes = self.queue.lanes()
        assert sum(lane.length for lane in lanes) == len(waiting)
        assert all(lane.length for lane in lanes), "an empty lane is dropped"
        held = {who: sum(one.who == who for one in waiting) for who in "pqr"}
        assert self.queue._held == {who: count for who, count in held.items() if count}
        for alias in self.fleet.aliases.values():
            rivals = [one for one in waiting if one.ticket.alias.cell == alias.cell]
            assert self.queue.contended(alias) == bool(rivals)


QueueMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestQueue = QueueMachine.TestCase
