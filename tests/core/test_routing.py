"""Strategies as pure functions, and the filter before them."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.config.settings import Backend, Model, Route, Routing
from arriero.core.fleet import Fleet, Lease, Target, take_lease
from arriero.core.health import Cause
from arriero.core.routing import (
    STRATEGIES,
    askable,
    last_resorts,
    may_go,
    open_mask,
    target_on,
    usable_mask,
)
from arriero.wire.inventory import Listed, Loaded

CHI_SQUARE_99_9 = {1: 10.83, 2: 13.82, 3: 16.27}  # by degrees of freedom


def new_fleet(count: int = 3, weights: tuple[float, ...] = (), slots: int = 64) -> Fleet:
    names = [chr(ord("a") + i) if count <= 26 else f"host{i}" for i in range(count)]
    routes = tuple(
        Route(backend=name, model="m:1", weight=weights[i] if weights else 1.0)
        for i, name in enumerate(names)
    )
    other = tuple(Route(backend=name, model="other:1") for name in names)
    return Fleet(
        [Backend(name=name, url=f"http://{name}", slots=slots) for name in names],
        [Model(name="chat", routes=routes), Model(name="other", routes=other)],
        Routing(probe_interval_s=0.0, slow_start_s=0.0),
    )


def warm(fleet: Fleet) -> Fleet:
    """Have every model in the memory of every host."""
    for host in fleet.hosts.values():
        host.resident = {"m:1": Loaded(), "other:1": Loaded()}
    return fleet


def names(fleet: Fleet, mask: int) -> str:
    return "".join(host.name for host in fleet.roster.hosts_of(mask))


def opened(fleet: Fleet, alias: str = "chat", now_s: float = 0.0) -> str:
    """Return who may be asked now."""
    fleet.roster.sweep(now_s)
    return names(fleet, open_mask(fleet.aliases[alias], fleet.roster, now_s))


def choose(fleet: Fleet, strategy: str, turn: int | None = None, alias: str = "chat") -> Target:
    known = fleet.aliases[alias]
    mask = open_mask(known, fleet.roster, 0.0)
    return STRATEGIES[strategy](known, mask, fleet.roster, fleet.turn if turn is None else turn)


def take(fleet: Fleet, name: str = "a", now_s: float = 0.0, alias: str = "chat") -> Lease:
    target = next(t for t in fleet.aliases[alias].targets if t.host.name == name)
    return take_lease(target, turn=fleet.next_turn(), now_s=now_s)


def serve(fleet: Fleet, strategy: str, count: int, alias: str = "chat") -> str:
    """Serve requests one after the other; return who got them."""
    chosen = ""
    for _ in range(count):
        name = choose(fleet, strategy, alias=alias).host.name
        take(fleet, name, alias=alias).succeed()
        chosen += name
    return chosen


# -- who may be asked


def test_all_hosts_are_open_at_first() -> None:
    assert opened(new_fleet()) == "abc"


def test_hosts_without_the_model_are_not_open() -> None:
    fleet = new_fleet()
    fleet.hosts["a"].installed = {"other:1": Listed()}
    fleet.hosts["b"].installed = {"m:1": Listed()}
    assert opened(fleet) == "bc"
    assert opened(fleet, "other") == "ac"


def test_ejected_hosts_are_open_when_their_time_is_over() -> None:
    fleet = new_fleet()
    take(fleet).fail(0.0, Cause.SILENT)
    assert opened(fleet, now_s=4.9) == "bc"
    assert opened(fleet, now_s=5.0) == "abc"


def test_a_host_that_is_being_probed_is_not_open() -> None:
    fleet = new_fleet()
    take(fleet).fail(0.0, Cause.SILENT)
    assert take(fleet, now_s=5.0).probe
    assert opened(fleet, now_s=99.0) == "bc"


def test_a_host_whose_slots_are_taken_is_usable_but_not_open() -> None:
    fleet = new_fleet(2, slots=2)
    first, second = take(fleet), take(fleet)
    assert opened(fleet) == "b"
    assert opened(fleet, "other") == "ab", "each model has slots of its own"
    assert names(fleet, usable_mask(fleet.aliases["chat"], fleet.roster, 0.0)) == "ab"
    first.succeed()
    assert opened(fleet) == "ab"
    second.succeed()
    assert opened(fleet) == "ab"


def test_who_can_be_asked_who_is_waited_for_and_when_there_is_nobody() -> None:
    fleet = new_fleet(2, slots=1)
    chat, roster = fleet.aliases["chat"], fleet.roster
    a_bit, b_bit = (fleet.hosts[name].bit for name in "ab")
    assert askable(chat, roster, 0.0) == a_bit | b_bit
    assert askable(chat, roster, 0.0, tried=a_bit) == b_bit
    first, second = take(fleet, "a"), take(fleet, "b")
    assert askable(chat, roster, 0.0) == 0, "wait for one of them"
    assert askable(chat, roster, 0.0, tried=a_bit | b_bit) is None
    station = fleet.hosts["a"].stations["m:1"]
    assert not may_go(station, 0.0)
    first.fail(0.0, Cause.LOST)
    assert askable(chat, roster, 0.0) == 0
    second.fail(0.0, Cause.LOST)
    assert askable(chat, roster, 0.0) == a_bit | b_bit, "as last resorts"
    assert not may_go(station, 0.0)
    assert may_go(station, 99.0)
    probe = take(fleet, "a", now_s=0.0)
    assert askable(chat, roster, 0.0, tried=b_bit) == 0, "it is being tried with its only slot"
    probe.fail(0.0, Cause.SILENT)
    fleet.hosts["b"].installed = {}
    assert askable(chat, roster, 0.0) is None


def test_last_resorts_are_ejected_hosts_that_would_answer_at_once() -> None:
    fleet = new_fleet(4)
    take(fleet, "a").fail(0.0, Cause.SILENT)
    take(fleet, "b").fail(0.0, Cause.REFUSED)
    take(fleet, "c").fail(0.0, Cause.LOST)
    fleet.hosts["d"].installed = {}
    assert opened(fleet) == ""
    assert names(fleet, last_resorts(fleet.aliases["chat"], fleet.roster)) == "bc"


# -- least busy


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.data())
def test_least_busy_never_picks_a_busier_host(loads: list[int], data: st.DataObject) -> None:
    fleet = new_fleet(len(loads))
    hosts = list(fleet.hosts.values())
    for host, load in zip(hosts, loads, strict=True):
        for _ in range(load):
            take(fleet, host.name)
        if data.draw(st.booleans()):
            host.resident = {"m:1": Loaded()}
    chosen = choose(fleet, "least-busy").host
    idle = [host for host in hosts if host.in_flight == min(loads)]
    assert chosen in idle
    warm = [host for host in idle if host.resident]
    assert chosen in (warm or idle)
    if len(warm or idle) <= 16:  # of more, a sample is compared
        assert chosen.last_turn == min(host.last_turn for host in warm or idle)


def test_many_equal_hosts_all_get_their_share() -> None:
    fleet = warm(new_fleet(200))
    counts = Counter(choose(fleet, "least-busy", turn).host.name for turn in range(4000))
    for turn in range(4000):
        fleet.turn = turn
        take(fleet, choose(fleet, "least-busy").host.name).succeed()
    served = [host.served for host in fleet.hosts.values()]
    assert len(counts) > 20, "no single place is where the sample begins"
    assert min(served) >= 10
    assert max(served) <= 40


def test_a_tie_goes_to_the_host_with_the_model_loaded() -> None:
    fleet = new_fleet()
    fleet.hosts["a"].resident = {"other:1": Loaded()}
    fleet.hosts["c"].resident = {"m:1": Loaded()}
    assert serve(fleet, "least-busy", 5) == "ccccc"
    assert serve(fleet, "least-busy", 2, "other") == "aa"


def test_a_loaded_model_does_not_outweigh_a_request_in_flight() -> None:
    fleet = new_fleet(2)
    fleet.hosts["a"].resident = {"m:1": Loaded()}
    take(fleet, "a")
    assert choose(fleet, "least-busy").host.name == "b"


def test_a_quiet_day_is_spread_over_all_hosts() -> None:
    # The fault of LiteLLM that this is for: all ties to the first entry of the file.
    assert Counter(serve(warm(new_fleet()), "least-busy", 300)) == {"a": 100, "b": 100, "c": 100}


def test_before_any_request_the_order_of_the_file_decides() -> None:
    assert serve(warm(new_fleet()), "least-busy", 4) == "abca"


def test_a_host_busy_with_one_alias_is_avoided_for_another() -> None:
    fleet = new_fleet(2)
    take(fleet, "a", alias="chat")
    assert serve(fleet, "least-busy", 3, "other") == "bbb"


def test_concurrent_requests_fill_all_hosts_evenly() -> None:
    fleet = new_fleet(4)
    for _ in range(40):
        take(fleet, choose(fleet, "least-busy").host.name)
        loads = [host.in_flight for host in fleet.hosts.values()]
        assert max(loads) - min(loads) <= 1


# -- round robin


def test_round_robin_visits_all_in_turn() -> None:
    assert serve(new_fleet(), "round-robin", 9) == "abcabcabc"


def test_round_robin_pays_no_heed_to_load() -> None:
    fleet = new_fleet(2)
    for _ in range(3):
        take(fleet, "a")
    assert sorted(serve(fleet, "round-robin", 10)) == ["a"] * 5 + ["b"] * 5


def test_round_robin_stays_even_when_a_host_goes_and_returns() -> None:
    fleet = new_fleet()
    serve(fleet, "round-robin", 6)
    fleet.hosts["b"].installed = {}
    assert serve(fleet, "round-robin", 4) == "acac"
    fleet.hosts["b"].installed = None
    assert serve(fleet, "round-robin", 6) == "bacbac"


# -- simple shuffle


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 1.0, 1.0), (1.0, 2.0, 5.0), (0.1, 9.9)])
def test_shuffle_follows_the_weights(weights: tuple[float, ...]) -> None:
    fleet = new_fleet(len(weights), weights)
    assert_spread(fleet, weights)


def test_shuffle_follows_the_weights_of_those_that_are_open() -> None:
    fleet = new_fleet(4, (1.0, 90.0, 3.0, 2.0))
    fleet.hosts["b"].installed = {}
    assert_spread(fleet, (1.0, 0.0, 3.0, 2.0))


def assert_spread(fleet: Fleet, weights: tuple[float, ...]) -> None:
    turns = 20_000
    counts = Counter(choose(fleet, "simple-shuffle", turn).host.name for turn in range(turns))
    chi_square = 0.0
    for name, weight in zip(fleet.hosts, weights, strict=True):
        expected = turns * weight / sum(weights)
        if expected:
            chi_square += (counts[name] - expected) ** 2 / expected
    positive = sum(weight > 0 for weight in weights)
    assert len(counts) == positive
    assert chi_square < CHI_SQUARE_99_9[positive - 1]


def test_shuffle_has_no_visible_order() -> None:
    fleet = new_fleet(2)
    chosen = [choose(fleet, "simple-shuffle", turn).host.name for turn in range(20_000)]
    pairs = Counter(pairwise(chosen))
    expected = 19_999 / 4
    assert sum((n - expected) ** 2 / expected for n in pairs.values()) < CHI_SQUARE_99_9[3]


def test_shuffle_can_be_replayed() -> None:
    fleet = new_fleet()
    assert len({choose(fleet, "simple-shuffle", 7) for _ in range(3)}) == 1


def test_a_weight_of_zero_gets_nothing_while_others_are_there() -> None:
    fleet = new_fleet(3, (0.0, 1.0, 1.0))
    chosen = {choose(fleet, "simple-shuffle", turn).host.name for turn in range(2000)}
    assert chosen == {"b", "c"}


def test_a_weight_of_zero_serves_when_nobody_else_does() -> None:
    fleet = new_fleet(2, (0.0, 0.0))
    assert choose(fleet, "simple-shuffle", 3).host.name in "ab"


# -- all of them


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_single_open_host_is_chosen(strategy: str) -> None:
    fleet = new_fleet(1)
    assert serve(fleet, strategy, 3) == "aaa"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_choosing_changes_nothing(strategy: str) -> None:
    fleet = new_fleet()
    assert choose(fleet, strategy, 5) is choose(fleet, strategy, 5)
    assert (fleet.turn, [host.in_flight for host in fleet.hosts.values()]) == (0, [0, 0, 0])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_of_two_models_on_a_host_one_with_a_slot_is_chosen(strategy: str) -> None:
    routes = (Route(backend="a", model="m:1"), Route(backend="a", model="n:1"))
    fleet = Fleet(
        [Backend(name="a", url="http://a", slots=1)],
        [Model(name="chat", routes=routes)],
        Routing(),
    )
    first, second = fleet.aliases["chat"].targets
    lease = take_lease(first, turn=fleet.next_turn(), now_s=0.0)
    for turn in range(20):
        assert choose(fleet, strategy, turn) is second
    lease.succeed()
    take_lease(second, turn=fleet.next_turn(), now_s=0.0)
    assert choose(fleet, strategy) is first
    assert target_on(fleet.aliases["chat"], first.host.bit) is first
