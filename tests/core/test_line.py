"""A line's own housekeeping; what it is for is tested by the queue's tests."""

from tests.core.queueing import fleet_of, queue, station, ticket

from arriero.core.line import Ticket

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
