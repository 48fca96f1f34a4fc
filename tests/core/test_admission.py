"""The queue's rules one by one; test_admission_model.py has all of them at once."""

import sys
from types import FrameType
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.queueing import (
    BACKGROUND,
    DEFAULT,
    EMBEDDING,
    INTERACTIVE,
    ask,
    fleet_of,
    queue,
    station,
    ticket,
)

from arriero.base.errors import QueueFull
from arriero.config.settings import Queueing, Routing
from arriero.core.admission import Queue
from arriero.core.fleet import Fleet
from arriero.core.line import Ticket

FLEET = fleet_of(one="ab", two="bc", slim="b")
ONE, TWO, SLIM = (FLEET.aliases[name] for name in ("one", "two", "slim"))


def drain(of: Queue, host: str = "b", fleet: Fleet = FLEET, now_s: float = 0.0) -> list[Ticket]:
    found = []
    while (each := of.next_for(station(fleet, host), now_s)) is not None:
        found.append(each)
    return found


def joined(of: Queue, *tickets: Ticket, now_s: float = 0.0) -> list[Ticket]:
    for each in tickets:
        of.join(each, now_s)
    return list(tickets)


# -- who is next


def test_an_empty_queue_has_nobody() -> None:
    waiting = queue()
    assert drain(waiting) == []
    assert not waiting.contended(ONE)
    assert waiting.depths() == (0, 0, 0, 0)
    assert waiting.expired(1e9) == []


def test_classes_are_strict() -> None:
    waiting = queue()
    order = [
        ticket(ONE, "p", priority=each) for each in (BACKGROUND, EMBEDDING, INTERACTIVE, DEFAULT)
    ]
    joined(waiting, *order)
    assert waiting.depths() == (1, 1, 1, 1)
    assert [each.ask.priority for each in drain(waiting)] == [
        INTERACTIVE, DEFAULT, EMBEDDING, BACKGROUND,
    ]  # fmt: skip


def test_one_principal_is_served_in_its_own_order() -> None:
    waiting = queue()
    mine = joined(waiting, *(ticket(ONE, "p", cost=100 - number) for number in range(20)))
    assert drain(waiting) == mine


def test_principals_take_turns_by_tokens() -> None:
    waiting = queue()
    joined(waiting, *(ticket(ONE, "long", cost=30) for _ in range(3)))
    joined(waiting, *(ticket(ONE, "short", cost=10) for _ in range(9)))
    order = [each.ask.principal for each in drain(waiting)]
    assert [order[:4].count("long"), order[:8].count("long"), order[:12].count("long")] == [1, 2, 3]


def test_aliases_that_share_a_station_share_its_turns() -> None:
    waiting = queue()
    joined(waiting, *(ticket(ONE, "p") for _ in range(4)), *(ticket(TWO, "q") for _ in range(4)))
    assert [each.ask.principal for each in drain(waiting)] == list("pqpqpqpq")


def test_a_station_gets_only_what_it_serves() -> None:
    waiting = queue()
    (mine,) = joined(waiting, ticket(ONE, "p"))
    assert drain(waiting, "c") == []
    assert drain(waiting, "a") == [mine]


def test_a_host_that_failed_a_request_does_not_get_it_back() -> None:
    waiting = queue()
    (mine,) = joined(waiting, ticket(ONE, "p", tried=FLEET.hosts["a"].bit))
    assert drain(waiting, "a") == []
    assert drain(waiting, "b") == [mine]


def test_who_returns_goes_first_and_is_charged_once() -> None:
    waiting = queue(length_max=3)
    again, *rest = joined(waiting, *(ticket(ONE, "p", cost=50) for _ in range(3)))
    assert waiting.next_for(station(FLEET, "a"), 0.0) is again
    charge = again.charge
    joined(waiting, ticket(ONE, "q"))
    again.tried = FLEET.hosts["a"].bit
    joined(waiting, again)  # there is room for it whatever the limit
    assert waiting.waiting == 4
    order = drain(waiting)
    assert order[0] is again
    assert again.charge is charge
    assert charge is not None
    assert charge.account.counter == 50 * 3
    assert set(order[1:]) == {*rest, *order[1:]}


def test_a_request_in_a_more_urgent_class_goes_before_one_that_returns() -> None:
    waiting = queue()
    (again,) = joined(waiting, ticket(ONE, "p", priority=EMBEDDING))
    assert drain(waiting) == [again]
    joined(waiting, again)
    (chat,) = joined(waiting, ticket(ONE, "q", priority=INTERACTIVE))
    assert drain(waiting) == [chat, again]


def test_a_newcomer_is_next() -> None:
    waiting = queue()
    joined(waiting, *(ticket(ONE, who) for who in "pqrs" for _ in range(5)))
    for _ in range(4):
        waiting.next_for(station(FLEET, "b"), 0.0)
    (new,) = joined(waiting, ticket(ONE, "new"))
    assert waiting.next_for(station(FLEET, "b"), 0.0) is new


# -- without waiting


def test_the_plain_way_charges_and_touches_nothing_else() -> None:
    waiting = queue()
    charge = waiting.charge(ONE, ask("p", prompt_tokens=10, output=5))
    assert charge.cost == 20
    assert waiting.waiting == 0
    # What p was served counts when it waits beside q.
    joined(waiting, ticket(ONE, "p"), ticket(ONE, "q"))
    assert [each.ask.principal for each in drain(waiting)] == ["q", "p"]


def test_only_rivals_contend() -> None:
    fleet = fleet_of(one="a", two="b")
    waiting = queue()
    joined(waiting, ticket(fleet.aliases["one"]))
    assert waiting.contended(fleet.aliases["one"])
    assert not waiting.contended(fleet.aliases["two"])


# -- time


def test_age_moves_a_request_up_a_class_at_a_time() -> None:
    waiting = queue(ageing_s=10.0)
    (old,) = joined(waiting, ticket(ONE, "p", priority=BACKGROUND))
    for now_s, stands_in in ((9.9, 3), (10.0, 2), (19.9, 2), (20.0, 1), (30.0, 0), (99.0, 0)):
        waiting.expired(now_s)
        assert old.priority == stands_in
    assert waiting.depths() == (0, 0, 0, 1), "it is still one of those that came as background"


def test_nothing_waits_for_ever_behind_more_urgent_ones() -> None:
    waiting = queue(ageing_s=10.0)
    (old,) = joined(waiting, ticket(ONE, "p", priority=BACKGROUND))
    served_s = None
    for second in range(100):  # one chat a second, one slot a second
        joined(waiting, ticket(ONE, f"q{second % 7}", priority=INTERACTIVE), now_s=second)
        if waiting.next_for(station(FLEET, "b"), float(second)) is old:
            served_s = second
            break
    assert served_s == 30


def test_age_does_not_unfold_a_flood_over_others() -> None:
    # What one principal has too much of becomes no more urgent than the fair share of its class.
    waiting = queue(ageing_s=10.0)
    joined(waiting, *(ticket(ONE, "flood", priority=DEFAULT) for _ in range(50)))
    joined(waiting, *(ticket(ONE, "other", priority=INTERACTIVE) for _ in range(10)), now_s=20.0)
    order = [each.ask.principal for each in drain(waiting, now_s=20.0)]
    assert order[:20].count("other") == 10


def test_deadlines_are_those_of_the_class_a_request_came_with() -> None:
    waiting = queue(ageing_s=1.0, interactive_deadline_s=10.0, background_deadline_s=5.0)
    chat, title = joined(
        waiting, ticket(ONE, priority=INTERACTIVE), ticket(ONE, priority=BACKGROUND)
    )
    assert waiting.expired(4.9) == []
    assert waiting.expired(5.0) == [title]
    assert waiting.expired(5.0) == []
    assert waiting.depths() == (1, 0, 0, 0)
    assert waiting.expired(10.0) == [chat]
    assert waiting.waiting == 0


def test_nobody_late_is_served() -> None:
    waiting = queue(default_deadline_s=5.0)
    (late,) = joined(waiting, ticket(ONE))
    assert drain(waiting, now_s=5.0) == []
    assert waiting.expired(5.0) == [late]
    joined(waiting, ticket(ONE), now_s=6.0)
    assert len(drain(waiting, now_s=7.0)) == 1


def test_who_left_between_being_late_and_being_told_is_not_told() -> None:
    waiting = queue(default_deadline_s=5.0)
    (late,) = joined(waiting, ticket(ONE))
    assert drain(waiting, now_s=5.0) == []
    waiting.leave(late)
    assert waiting.expired(5.0) == []


# -- limits


def test_one_principal_cannot_fill_the_queue() -> None:
    waiting = queue(length_max=5, per_principal_max=3)
    joined(waiting, *(ticket(ONE, "p") for _ in range(3)))
    with pytest.raises(QueueFull) as full:
        joined(waiting, ticket(ONE, "p"))
    assert full.value.reason == "principal"
    joined(waiting, ticket(ONE, "q"), ticket(TWO, "q"))
    with pytest.raises(QueueFull) as full:
        joined(waiting, ticket(ONE, "r"))
    assert full.value.reason == "length"
    assert (full.value.status, full.value.code, full.value.retryable) == (429, "queue_full", True)
    drain(waiting)
    joined(waiting, ticket(ONE, "p"))


def test_who_is_refused_is_told_when_to_come_back() -> None:
    waiting = queue(length_max=10)
    joined(waiting, *(ticket(ONE, "p") for _ in range(10)))
    now_s = 0.0
    for _ in range(10):
        now_s += 2.0
        assert waiting.next_for(station(FLEET, "b"), now_s)
        joined(waiting, ticket(ONE, "p"), now_s=now_s)
    with pytest.raises(QueueFull) as full:
        joined(waiting, ticket(ONE, "q"), now_s=now_s)
    assert full.value.retry_after_s == 21  # ten requests at two seconds each


def test_a_reload_changes_limits_for_those_who_wait() -> None:
    waiting = queue(default_deadline_s=100.0)
    charged = waiting.charge(ONE, ask("p", prompt_tokens=1000))
    first, second = joined(waiting, ticket(ONE, "p"), ticket(ONE, "q"))
    waiting.set_limits(Queueing(default_deadline_s=10.0, length_max=2))
    with pytest.raises(QueueFull):
        joined(waiting, ticket(ONE, "r"))
    assert waiting.waiting == 2
    assert waiting.next_for(station(FLEET, "b"), 5.0) is first, "the counters began anew"
    assert waiting.expired(10.0) == [second]
    charged.settle(5)


def test_reloaded_aliases_compete_with_those_of_before() -> None:
    after = Fleet(
        [host.settings for host in FLEET.hosts.values()],
        [alias.settings for alias in FLEET.aliases.values()],
        Routing(),
        FLEET,
    )
    waiting = queue()
    old = joined(waiting, *(ticket(ONE, "p") for _ in range(3)))
    waiting.set_limits(Queueing())
    new = joined(waiting, *(ticket(after.aliases["one"], "q") for _ in range(3)))
    order = drain(waiting, "b", after)
    assert [each.ask.principal for each in order] == list("pqpqpq")
    assert set(order) == {*old, *new}


# -- batches


def test_companions_are_alike_and_the_oldest_first() -> None:
    waiting = queue()
    one = joined(waiting, *(ticket(ONE, who, batch="x") for who in "pqr"))
    joined(waiting, ticket(ONE, "p", batch="y"), ticket(ONE, "p"), ticket(TWO, "p", batch="x"))
    first = waiting.next_for(station(FLEET, "b"), 0.0)
    assert first is one[0]
    assert waiting.companion(first, 0.0) is one[1]
    assert waiting.companion(first, 0.0) is one[2]
    assert waiting.companion(first, 0.0) is None
    assert waiting.waiting == 3
    assert all(each.charge is not None for each in one)


def test_companions_pay_for_their_ride() -> None:
    waiting = queue()
    joined(waiting, *(ticket(ONE, "pdf", batch="x") for _ in range(8)))
    first = waiting.next_for(station(FLEET, "b"), 0.0)
    assert first is not None
    while waiting.companion(first, 0.0):
        pass
    joined(waiting, ticket(ONE, "pdf", batch="x"), ticket(ONE, "other", batch="x"))
    following = waiting.next_for(station(FLEET, "b"), 0.0)
    assert following is not None
    assert following.ask.principal == "other"


def test_a_companion_that_left_does_not_ride() -> None:
    waiting = queue()
    first, gone, stays = joined(waiting, *(ticket(ONE, "p", batch="x") for _ in range(3)))
    assert waiting.next_for(station(FLEET, "b"), 0.0) is first
    waiting.leave(gone)
    assert waiting.companion(first, 0.0) is stays
    assert waiting.companion(first, 0.0) is None


# -- what the gateway asks


def test_the_demand_tells_which_stations_somebody_waits_for() -> None:
    waiting = queue()
    assert list(waiting.demand()) == []
    joined(waiting, ticket(SLIM), ticket(TWO, tried=FLEET.hosts["b"].bit))
    ((group, mask),) = waiting.demand()
    assert group is station(FLEET, "b").group
    assert mask == FLEET.hosts["b"].bit | FLEET.hosts["c"].bit
    drain(waiting)
    drain(waiting, "c")
    assert list(waiting.demand()) == []


@given(st.lists(st.sampled_from("pqrs"), max_size=60), st.integers(0, 59))
def test_leaving_disturbs_nobody(who: list[str], gone: int) -> None:
    def order(*, leaves: bool) -> list[int]:
        waiting = queue()
        tickets = joined(waiting, *(ticket(ONE, each) for each in who))
        if leaves and gone < len(tickets):
            waiting.leave(tickets[gone])
        return [tickets.index(each) for each in drain(waiting)]

    kept = order(leaves=True)
    assert sorted(kept) == [at for at in range(len(who)) if at != gone]
    for each in "pqrs":
        mine = [at for at in kept if who[at] == each]
        assert mine == sorted(mine)


class Steps:
    """Counts the byte codes that run in the block, which does not depend on the machine."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        frame.f_trace_opcodes = True
        self.count += event == "opcode"
        return self._trace


def test_a_long_queue_costs_no_more_steps_than_a_short_one() -> None:
    def steps(length: int) -> int:
        waiting = queue(length_max=100_000, per_principal_max=100_000)
        joined(waiting, *(ticket(ONE, f"p{number % (length // 4)}") for number in range(length)))
        with Steps() as steps:
            for _ in range(100):
                again = waiting.next_for(station(FLEET, "b"), 0.0)
                assert again is not None
                joined(waiting, ticket(ONE, again.ask.principal))
                leaves = ticket(TWO)
                waiting.join(leaves, 0.0)
                waiting.leave(leaves)
        return steps.count

    assert steps(20_000) < 1.5 * steps(200)
