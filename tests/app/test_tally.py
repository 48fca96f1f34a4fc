"""What workers count together: exact, fair, and free of the dead."""

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.app import tally as module
from arriero.app.tally import RING_ROWS, ROWS_MAX, SharedTally, make_memory
from arriero.app.turns import PROMISE_MS
from arriero.config.settings import Backend, Model, Route, Routing
from arriero.core.fleet import Fleet, Lease, take_lease
from arriero.core.roster import UNLIMITED, Station
from arriero.core.tally import SharedRoster, TallyFull

NOW_MS = 1_000_000


class Clock:
    """Milliseconds that a test lets pass."""

    def __init__(self) -> None:
        self.ms = NOW_MS

    def __call__(self) -> int:
        return self.ms


class Shared:
    """Workers of one process, with a tally each."""

    def __init__(self, count: int = 2) -> None:
        self.clock = Clock()
        self.memory = make_memory()
        self.bells = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(count)]
        self.tallies = [SharedTally(self.memory, at, self.bells, self.clock) for at in range(count)]

    def close(self) -> None:
        for fd in (self.memory, *self.bells):
            os.close(fd)

    def rung(self, worker: int) -> bool:
        try:
            return os.eventfd_read(self.bells[worker]) > 0
        except BlockingIOError:
            return False


@pytest.fixture
def shared() -> Iterator[Shared]:
    found = Shared()
    yield found
    found.close()


def test_a_name_has_the_same_row_everywhere(shared: Shared) -> None:
    one, other = shared.tallies
    names = ["b", "a", "c"]
    rows = [one.row(name) for name in names]
    assert len(set(rows)) == 3
    assert [other.row(name) for name in reversed(names)] == rows[::-1]


def test_a_slot_is_given_once(shared: Shared) -> None:
    one, other = shared.tallies
    row, group = one.row("station"), one.row("group")
    assert one.claim(row, 1, 0)
    assert not other.claim(row, 1, 0)
    assert other.foreign(row) == 1
    assert not one.vacate(row, group)
    assert other.claim(row, 1, 0)
    assert not one.may_claim(row, 1)
    assert one.may_claim(row, 2)


@pytest.mark.parametrize("seen", [0, 4, 9])
def test_no_more_slots_are_given_than_there_are(shared: Shared, seen: int) -> None:
    """Whatever a worker has seen of the others."""
    one, other = shared.tallies
    row, group = one.row("station"), one.row("group")
    claims = [tally.claim(row, 9, seen) for _ in range(6) for tally in (one, other)]
    assert claims == [True] * 9 + [False] * 3
    assert (one.foreign(row), other.foreign(row)) == (4, 5)
    one.vacate(row, group)
    assert [other.claim(row, 9, seen), one.claim(row, 9, seen)] == [True, False]


def test_without_limit_nobody_is_refused(shared: Shared) -> None:
    one, other = shared.tallies
    row = one.row("station")
    assert all(tally.claim(row, UNLIMITED, 0) for tally in (one, other, one))
    assert (one.foreign(row), other.foreign(row)) == (1, 2)


def test_a_free_slot_goes_to_who_waits(shared: Shared) -> None:
    one, other = shared.tallies
    row, group = one.row("station"), one.row("group")
    assert one.claim(row, 1, 0)
    other.want(group, 0)
    assert one.vacate(row, group)
    assert shared.rung(1)
    assert not one.claim(row, 1, 0)
    assert other.claim(row, 1, 0)


def test_who_does_not_come_loses_the_slot(shared: Shared) -> None:
    one, other = shared.tallies
    row, group = one.row("station"), one.row("group")
    one.claim(row, 1, 0)
    other.want(group, 0)
    one.vacate(row, group)
    shared.clock.ms += PROMISE_MS - 1
    assert not one.claim(row, 1, 0)
    shared.clock.ms += 1
    assert one.claim(row, 1, 0)


def test_those_who_wait_take_turns(shared: Shared) -> None:
    row, group = shared.tallies[0].row("station"), shared.tallies[0].row("group")
    for tally in shared.tallies:
        tally.want(group, 1)
        shared.clock.ms += 1
    turns = []
    holder = shared.tallies[0]
    holder.claim(row, 1, 0)
    for _ in range(6):
        shared.clock.ms += 1
        holder.vacate(row, group)
        [holder] = [tally for tally in shared.tallies if tally.claim(row, 1, 0)]
        turns.append(shared.tallies.index(holder))
        holder.want(group, 1)
    assert turns == [0, 1, 0, 1, 0, 1]


def test_the_more_urgent_goes_first(shared: Shared) -> None:
    one, other = shared.tallies
    row, group = one.row("station"), one.row("group")
    one.want(group, 2)
    shared.clock.ms += 50
    other.want(group, 1)
    one.claim(row, 1, 0)
    assert one.vacate(row, group)
    other.want(group, None)
    assert other.claim(row, 1, 0)
    assert not other.vacate(row, group) or shared.rung(0)
    assert one.claim(row, 1, 0)


def test_the_dead_count_nothing(shared: Shared) -> None:
    one, other = shared.tallies
    row, group = one.row("station"), one.row("group")
    other.claim(row, 1, 0)
    other.want(group, 0)
    SharedTally(shared.memory, -1, shared.bells, shared.clock).forget(1)
    assert shared.rung(0)
    assert one.foreign(row) == 0
    assert one.claim(row, 1, 0)
    assert not one.vacate(row, group)  # nobody waits any more


def test_who_is_killed_with_the_lock_does_not_keep_it(shared: Shared) -> None:
    row = shared.tallies[0].row("station")
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        tally = SharedTally(shared.memory, 1, shared.bells, shared.clock)
        with tally._lock:
            os.write(theirs, b"x")
            signal.pause()
        os._exit(0)
    assert os.read(ours, 1) == b"x"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(ours)
    os.close(theirs)
    assert shared.tallies[0].claim(row, 1, 0)


def test_of_few_rows_all_are_looked_at(shared: Shared) -> None:
    one, other = shared.tallies
    rows = [one.row(str(at)) for at in range(3)]
    assert list(other.news()) == rows


def test_news_are_told_once_and_none_is_lost(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FEW_ROWS", 0)
    one, other = shared.tallies
    rows = [one.row(str(at)) for at in range(3)]
    for row in rows[:2]:
        one.count(row)
    assert set(other.news()) == set(rows[:2])
    assert set(other.news()) == set()
    for _ in range(RING_ROWS):
        one.count(rows[0])
    assert set(other.news()) >= set(rows)  # lapped: all are looked at
    assert set(other.news()) == set()


def test_there_is_an_end_of_rows(shared: Shared) -> None:
    one = shared.tallies[0]
    for at in range(ROWS_MAX):
        one.row(str(at))
    with pytest.raises(TallyFull, match=str(ROWS_MAX)):
        one.row("one more")


# -- the rosters over it


def fleet_of(tally: SharedTally, slots: int = 1) -> tuple[Fleet, SharedRoster]:
    roster = SharedRoster(tally)
    hosts = [Backend(name=name, url=f"http://{name}:11434", slots=slots) for name in "ab"]
    routes = tuple(Route(backend=host.name, model="m") for host in hosts)
    fleet = Fleet(hosts, [Model(name="m", routes=routes)], Routing(), None, roster)
    roster.follow(fleet.hosts.values())
    return fleet, roster


def stations_of(fleet: Fleet) -> list[Station]:
    return [target.station for target in fleet.aliases["m"].targets]


def check(fleet: Fleet, roster: SharedRoster) -> None:
    """Hold that the masks say what the counts say."""
    for host in fleet.hosts.values():
        assert [bool(level & host.bit) for level in roster.levels].index(True) == host.in_flight
        assert sum(bool(level & host.bit) for level in roster.levels) == 1
        assert host.in_flight == sum(station.running for station in host.stations.values())
        assert host.foreign == sum(station.foreign for station in host.stations.values())


def test_a_roster_sees_what_others_do(shared: Shared) -> None:
    (one, roster), (other, others) = (fleet_of(tally) for tally in shared.tallies)
    target = one.aliases["m"].targets[0]
    assert roster.claim(target.station)
    lease = take_lease(target, 1, 0.0)
    others.catch_up()
    theirs = stations_of(other)[0]
    assert (theirs.running, theirs.foreign, theirs.free) == (1, 1, False)
    assert other.hosts["a"].in_flight == 1
    lease.abandon(0.0)
    others.catch_up()
    assert (theirs.running, theirs.free) == (0, True)
    for fleet, each in ((one, roster), (other, others)):
        check(fleet, each)


def test_who_was_late_is_refused_and_told_when_it_is_free(shared: Shared) -> None:
    (one, roster), (other, others) = (fleet_of(tally) for tally in shared.tallies)
    vacant: list[Station] = []
    others.on_vacant = vacant.append
    target = one.aliases["m"].targets[0]
    assert roster.claim(target.station)
    lease = take_lease(target, 1, 0.0)
    theirs = stations_of(other)[0]
    assert [theirs.free, others.claim(theirs), theirs.free] == [True, False, False]
    assert [others.refused] == [True]
    lease.abandon(0.0)
    others.catch_up()
    assert [theirs.free, others.refused] == [True, False]
    assert theirs in vacant


def test_a_claim_that_no_lease_follows_is_given_back(shared: Shared) -> None:
    (one, roster), (other, others) = (fleet_of(tally) for tally in shared.tallies)
    assert roster.claim(stations_of(one)[0])
    roster.sweep(0.0)
    assert others.claim(stations_of(other)[0])


def test_new_settings_of_a_host_go_on_with_its_count(shared: Shared) -> None:
    fleet, roster = fleet_of(shared.tallies[0])
    target = fleet.aliases["m"].targets[0]
    assert roster.claim(target.station)
    lease = take_lease(target, 1, 0.0)
    hosts = [
        Backend(name=name, url=f"http://{name}:11434", slots=1, connections_max=9) for name in "ab"
    ]
    routes = tuple(Route(backend=host.name, model="m") for host in hosts)
    later = Fleet(hosts, [Model(name="m", routes=routes)], Routing(), fleet)
    roster.follow(later.hosts.values())
    assert not roster.claim(stations_of(later)[0])  # the old request is still there
    lease.abandon(0.0)
    roster.catch_up()
    assert roster.claim(stations_of(later)[0])


@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 1), st.integers(0, 1), st.sampled_from(["ask", "end", "want", "look"])
        ),
        max_size=60,
    ),
    slots=st.integers(1, 2),
)
def test_never_more_than_the_slots(steps: list[tuple[int, int, str]], slots: int) -> None:
    shared = Shared()
    try:
        sides = [fleet_of(tally, slots) for tally in shared.tallies]
        leases: list[list[list[Lease]]] = [[[], []], [[], []]]
        for worker, at, what in steps:
            fleet, roster = sides[worker]
            target = fleet.aliases["m"].targets[at]
            if what == "ask" and roster.claim(target.station):
                leases[worker][at].append(take_lease(target, 1, 0.0))
            elif what == "end" and leases[worker][at]:
                leases[worker][at].pop().abandon(0.0)
            elif what == "want":
                roster.want({target.station.group: 1} if at else {})
            elif what == "look":
                shared.clock.ms += 30
                roster.catch_up()
            assert all(len(leases[0][host]) + len(leases[1][host]) <= slots for host in (0, 1))
            check(fleet, roster)
        shared.clock.ms += 30
        for fleet, roster in sides:
            roster.sweep(1.0)
            check(fleet, roster)
            for host, station in enumerate(stations_of(fleet)):
                running = len(leases[0][host]) + len(leases[1][host])
                assert station.running == running
                assert station.free == (running < slots)
    finally:
        shared.close()
