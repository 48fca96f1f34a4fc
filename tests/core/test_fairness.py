"""Virtual token counters: the promises of arXiv 2401.00588, checked on a small simulated server.

The server has a number of slots and takes one token of work per slot and tick. Principals send
requests; what the queue hands out is served to its end and settled then.
"""

import heapq
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.queueing import ask, fleet_of, queue, station

from arriero.core.fairness import (
    ACCOUNTS_MAX,
    COMPLETION_WEIGHT,
    Account,
    Charge,
    Ledger,
    cost_of,
    work_of,
)
from arriero.core.line import Ticket
from arriero.core.record import Record

FOREVER_S = 1_000_000.0


class Work:
    """A request: when it comes, whose it is, what the gateway guesses and what it comes to."""

    def __init__(self, at_s: float, who: str, guessed: int, cost: int) -> None:
        self.at_s = at_s
        self.who = who
        self.guessed = guessed
        self.cost = cost
        self.begun_s = -1.0
        self.ended_s = -1.0


class Server:
    """One station with `slots`; time passes from event to event."""

    def __init__(self, slots: int) -> None:
        self.fleet = fleet_of(one="a")
        self.alias = self.fleet.aliases["one"]
        self.queue = queue(
            length_max=1_000_000,
            per_principal_max=1_000_000,
            ageing_s=FOREVER_S,
            default_deadline_s=FOREVER_S,
        )
        self.slots = slots
        self.done: list[Work] = []
        self._running: list[tuple[float, int, Work, Charge]] = []
        self._count = 0

    def run(self, arrivals: Iterable[Work], until_s: float) -> None:
        """Serve `arrivals`, which are in the order of their time."""
        coming = sorted(arrivals, key=lambda work: work.at_s)
        at = 0
        while True:
            next_s = coming[at].at_s if at < len(coming) else FOREVER_S
            end_s = self._running[0][0] if self._running else FOREVER_S
            now_s = min(next_s, end_s)
            if now_s >= until_s:
                return
            if end_s <= next_s:
                self._end()
            else:
                self._arrive(coming[at])
                at += 1
            self._dispatch(now_s)

    def _arrive(self, work: Work) -> None:
        wanted = ask(work.who, prompt_tokens=work.guessed)
        if len(self._running) < self.slots and not self.queue.contended(self.alias):
            self._begin(work, self.queue.charge(self.alias, wanted), work.at_s)
        else:
            self.queue.join(Ticket(self.alias, wanted, work), work.at_s)

    def _dispatch(self, now_s: float) -> None:
        while len(self._running) < self.slots:
            ticket = self.queue.next_for(station(self.fleet, "a"), now_s)
            if ticket is None:
                return
            assert isinstance(ticket.waiter, Work)
            assert ticket.charge is not None
            self._begin(ticket.waiter, ticket.charge, now_s)

    def _begin(self, work: Work, charge: Charge, now_s: float) -> None:
        work.begun_s = now_s
        self._count += 1
        heapq.heappush(self._running, (now_s + work.cost, self._count, work, charge))

    def _end(self) -> None:
        ended_s, _, work, charge = heapq.heappop(self._running)
        work.ended_s = ended_s
        charge.settle(work.cost)
        self.done.append(work)

    def service(self, who: str, from_s: float, to_s: float) -> float:
        """The work done for somebody between two times, also of what is not done yet."""
        works = [*self.done, *(work for _, _, work, _ in self._running)]
        return sum(
            max(0.0, min(to_s, work.begun_s + work.cost) - max(from_s, work.begun_s))
            for work in works
            if work.who == who
        )


def backlog(who: str, count: int, cost: int, guessed: int | None = None) -> Iterator[Work]:
    for _ in range(count):
        yield Work(0.0, who, cost if guessed is None else guessed, cost)


def largest_gap(server: Server, one: str, other: str, until_s: float) -> float:
    """The largest difference in service over any span: how far their difference ever swings."""
    steps = [step * until_s / 200 for step in range(201)]
    ahead = [server.service(one, 0, now) - server.service(other, 0, now) for now in steps]
    return max(ahead) - min(ahead)


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("guess", [0, 50, 400], ids=["nothing", "half", "four times too much"])
def test_one_who_sends_ten_times_as_much_gets_no_more(slots: int, guess: int) -> None:
    server = Server(slots)
    server.run([*backlog("q", 1000, 100, guess), *backlog("p", 100, 100, guess)], 12_000 / slots)
    bound = 2 * slots * max(guess, 100)
    assert largest_gap(server, "p", "q", 12_000 / slots) <= bound
    assert server.service("p", 0, 12_000 / slots) == pytest.approx(6_000, abs=bound)


def test_it_is_tokens_and_not_requests_that_are_shared() -> None:
    server = Server(1)
    server.run([*backlog("short", 1000, 10), *backlog("long", 100, 500)], 20_000)
    assert server.service("short", 0, 20_000) == pytest.approx(10_000, abs=1_000)


costs = st.integers(1, 100)


@given(
    slots=st.integers(1, 4),
    p_costs=st.lists(costs, min_size=1, max_size=8),
    q_costs=st.lists(costs, min_size=1, max_size=8),
    others=st.lists(st.tuples(st.floats(0, 3000), st.sampled_from("abc"), costs), max_size=40),
    guess=st.integers(0, 100),
    until_s=st.floats(100, 3000),
)
def test_the_gap_between_two_backlogged_is_bounded(
    slots: int,
    p_costs: list[int],
    q_costs: list[int],
    others: list[tuple[float, str, int]],
    guess: int,
    until_s: float,
) -> None:
    """Theorem 4.4: for any span in which both wait, whoever else comes and goes.

    `M`, the work that may be under way, is `slots` times the dearest request; a guess may be wrong
    by that much as well.
    """
    works = [Work(at_s, who, guess, cost) for at_s, who, cost in others]
    for who, sizes in (("p", p_costs), ("q", q_costs)):
        count = 3000 // sum(sizes) * len(sizes) * slots + len(sizes) + slots
        works += [Work(0.0, who, guess, sizes[number % len(sizes)]) for number in range(count)]
    server = Server(slots)
    server.run(works, until_s)
    assert largest_gap(server, "p", "q", until_s) <= 2 * slots * 100


@given(slots=st.integers(1, 4), guess=st.integers(0, 100), at_s=st.floats(600, 2000), own=costs)
def test_a_newcomer_waits_no_longer_than_one_running_request(
    slots: int, guess: int, at_s: float, own: int
) -> None:
    # The others have all been served once by then: newcomers queue behind newcomers.
    works = [work for who in "abcde" for work in backlog(who, 100, 100, guess)]
    newcomer = Work(at_s, "new", guess, own)
    server = Server(slots)
    server.run([*works, newcomer], at_s + 500)
    assert 0 <= newcomer.begun_s - at_s <= 100


def test_idle_time_is_not_saved_up() -> None:
    server = Server(1)
    # p is there from the beginning, rests for long, and comes back with as much as q has.
    back = [Work(10_000.0, "p", 100, 100) for _ in range(200)]
    server.run([*backlog("p", 1, 100), *backlog("q", 400, 100), *back], 20_000)
    assert server.service("p", 10_000, 20_000) == pytest.approx(5_000, abs=200)


def test_use_of_an_idle_gateway_is_not_held_against_anybody() -> None:
    server = Server(1)
    alone = [Work(at * 200.0, "p", 100, 100) for at in range(100)]  # nobody else wants it
    both = [Work(20_000.0, who, 100, 100) for who in "pq" for _ in range(100)]
    server.run([*alone, *both], 30_000)
    assert server.service("p", 20_000, 30_000) == pytest.approx(5_000, abs=200)


# -- the ledger


def test_a_completion_token_costs_twice_a_prompt_token() -> None:
    assert COMPLETION_WEIGHT == 2
    assert cost_of(100, 10) == 120


def test_an_estimate_is_replaced_by_what_it_came_to() -> None:
    ledger = Ledger()
    charge = ledger.admit("p", 100)
    assert (charge.account.counter, charge.account.open) == (100, 1)
    charge.settle(30)
    assert (charge.account.counter, charge.account.open) == (30, 0)


@pytest.mark.parametrize(
    ("record", "work"),
    [
        (Record(outcome="ok", prompt_tokens=10, completion_tokens=5), 20),
        (Record(outcome="ok"), 100),  # the backend counted nothing
        (Record(outcome="backend_error"), 0),
        (Record(outcome="gateway_error"), 0),
        (Record(outcome="backend_error", first_token_s=0.1), 100),
        (Record(outcome="client_gone"), 100),
        (Record(outcome="client_gone", first_token_s=0.1, response_bytes=256_000), 2000),
        (Record(outcome="client_gone", prompt_tokens=7), 7),
    ],
)
def test_what_a_request_came_to(record: Record, work: int) -> None:
    assert work_of(record, 100) == work


def test_a_charge_is_settled_once() -> None:
    charge = Ledger().admit("p", 1)
    charge.settle(1)
    with pytest.raises(AssertionError):
        charge.settle(1)


def test_a_new_account_begins_where_somebody_was_last_served() -> None:
    ledger = Ledger()
    ledger.admit("p", 100)
    assert ledger.account("q").counter == 0, "p was served at 0"
    ledger.admit("p", 100)
    assert ledger.account("r").counter == 100


def test_a_lift_never_lowers() -> None:
    ledger = Ledger()
    account = Account(50)
    ledger.lift(account, 20)
    assert account.counter == 50
    ledger.lift(account, 70)
    assert account.counter == 70
    ledger.floor = 90
    ledger.lift(account, None)
    assert account.counter == 90


def test_who_is_idle_and_owes_nothing_is_forgotten() -> None:
    ledger = Ledger()
    first = ledger.admit("kept, because it is at work", 10)
    for number in range(5000):
        ledger.admit(f"p{number}", 1).settle(1)
        ledger.floor += 1
    assert len(ledger.accounts) < 600
    assert first.account in ledger.accounts.values()


def test_what_forgets_nobody_that_owes_is_limited_all_the_same() -> None:
    ledger = Ledger()
    for number in range(3 * ACCOUNTS_MAX):
        ledger.admit(f"p{number}", 10).settle(10)  # all above the floor, which stays at 0
    assert len(ledger.accounts) <= 2 * ACCOUNTS_MAX
    ledger = Ledger()
    charges = [ledger.admit(f"p{number}", 10) for number in range(3 * ACCOUNTS_MAX)]
    assert len(ledger.accounts) == len(charges), "who is at work is never forgotten"
