"""A line's own housekeeping; what it is for is tested by the queue's tests."""

import msgspec
import pytest
from tests.core.queueing import DEFAULT, fleet_of, queue, station, ticket

from arriero.config.settings import Strategy
from arriero.core.admission import Queue
from arriero.core.learning import sent
from arriero.core.line import PASSED_MAX, Ticket
from arriero.wire.canonical import Completion, Sampling

FLEET = fleet_of(one="a")
ONE = FLEET.aliases["one"]


def test_refunds_leave_no_litter_behind() -> None:
    # Each refund enters the place anew; the older entries lie in the heap until they are met.
    waiting = queue()
    for who in "pq":
        waiting.join(ticket(ONE, who), 0.0)
    (lane,) = waiting.lanes()
    line = lane.lines[ticket(ONE).priority]
    for _ in range(1000):
        waiting.charge(ONE, ticket(ONE, "p", cost=50).ask).settle(10)
        assert len(line._heap) < 30


def test_a_refund_brings_its_principal_forward() -> None:
    waiting = queue()
    running = waiting.charge(ONE, ticket(ONE, "p", cost=100).ask)
    waiting.charge(ONE, ticket(ONE, "q", cost=50).ask)
    tickets = [ticket(ONE, "p"), ticket(ONE, "q")]
    for each in tickets:
        waiting.join(each, 0.0)
    running.settle(20)
    assert waiting.next_for(station(FLEET, "a"), 0.0) is tickets[0]


def test_an_extra_charge_puts_its_principal_back() -> None:
    waiting = queue()
    running = waiting.charge(ONE, ticket(ONE, "p", cost=10).ask)
    waiting.charge(ONE, ticket(ONE, "q", cost=50).ask)
    tickets = [ticket(ONE, "p"), ticket(ONE, "q")]
    for each in tickets:
        waiting.join(each, 0.0)
    running.settle(200)
    assert waiting.next_for(station(FLEET, "a"), 0.0) is tickets[1]


def test_a_ticket_tells_its_cost() -> None:
    assert ticket(ONE, cost=70).cost == 70


def test_lines_of_all_sizes_come_to_nothing() -> None:
    waiting = queue()
    tickets: list[Ticket] = [ticket(ONE, f"p{number % 3}", batch=number % 2) for number in range(9)]
    for each in tickets:
        waiting.join(each, 0.0)
    (lane,) = waiting.lanes()
    for each in tickets:
        waiting.leave(each)
    assert waiting.lanes() == []
    assert lane.length == 0
    assert all(line.length == 0 and line.rank() is None for line in lane.lines)
    assert lane._batches == {}
    assert all(not each.account.places for each in tickets if each.account is not None)


# -- equals are told apart by what the host has in its cache


def served(*principals: str) -> tuple[Queue, list[Ticket]]:
    """Return a queue in which these wait with equal counters, having been served before."""
    waiting = queue()
    for who in principals:
        waiting.charge(ONE, ticket(ONE, who, cost=10).ask).settle(10)
    tickets = [ticket(ONE, who) for who in principals]
    for each in tickets:
        waiting.join(each, 0.0)
    return waiting, tickets


def nearest(waiting: Queue, unread: dict[Ticket, float]) -> Ticket:
    (lane,) = waiting.lanes()
    return lane.lines[DEFAULT].nearest(unread.__getitem__)


def test_of_equals_the_one_with_least_to_read_goes_first() -> None:
    waiting, (p, q, r) = served("p", "q", "r")
    assert nearest(waiting, {p: 30, q: 10, r: 20}) is q
    assert nearest(waiting, {p: 10, q: 10, r: 10}) is p


def test_who_is_owed_more_goes_first_whatever_there_is_to_read() -> None:
    waiting, (p, q) = served("p", "q")
    assert q.account is not None
    q.account.counter += 1
    assert nearest(waiting, {p: 30, q: 0}) is p


def test_nobody_is_passed_over_for_ever() -> None:
    waiting, (p, q) = served("p", "q")
    taken = [nearest(waiting, {p: 30, q: 0}) for _ in range(PASSED_MAX + 2)]
    assert taken == [q] * PASSED_MAX + [p] * 2


def test_a_newcomer_is_never_passed_over() -> None:
    waiting = queue()
    newcomer, other = ticket(ONE, "new"), ticket(ONE, "p")
    waiting.charge(ONE, ticket(ONE, "p", cost=10).ask)
    waiting.join(other, 0.0)
    waiting.join(newcomer, 0.0)
    assert newcomer.account is not None
    assert other.account is not None
    assert newcomer.account.counter == other.account.counter
    assert nearest(waiting, {newcomer: 30, other: 0}) is newcomer


def test_who_comes_back_from_a_failed_backend_goes_first() -> None:
    waiting, (p, q) = served("p", "q")
    back = ticket(ONE, "q", charge=waiting.charge(ONE, ticket(ONE, "q").ask))
    waiting.join(back, 0.0)
    assert nearest(waiting, {p: 30, q: 0, back: 99}) is back


@pytest.mark.parametrize(("strategy", "first"), [("adaptive", 1), ("least-busy", 0)])
def test_only_adaptive_looks_at_caches(strategy: Strategy, first: int) -> None:
    fleet = fleet_of(one="ab")
    alias = msgspec.structs.replace(fleet.aliases["one"], strategy=strategy)
    waiting = queue()
    tickets = []
    for who in "pq":
        request = Completion(model="m", prompt=who * 4000, sampling=Sampling())
        each = Ticket(alias, msgspec.structs.replace(ticket(alias, who).ask, request=request), None)
        waiting.charge(alias, each.ask).settle(10)
        tickets.append(each)
    sent(station(fleet, "a"), tickets[1].ask)
    for each in tickets:
        waiting.join(each, 0.0)
    assert waiting.next_for(station(fleet, "a"), 0.0) is tickets[first]
