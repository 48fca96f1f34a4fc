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
    candidates,
    last_resorts,
    least_busy,
    simple_shuffle,
)
from arriero.wire.inventory import Listed, Loaded

CHI_SQUARE_99_9 = {1: 10.83, 2: 13.82, 3: 16.27}  # by degrees of freedom


def new_fleet(count: int = 3, weights: tuple[float, ...] = ()) -> Fleet:
    names = "abcdefgh"[:count]
    routes = tuple(
        Route(backend=name, model="m:1", weight=weights[i] if weights else 1.0)
        for i, name in enumerate(names)
    )
    other = tuple(Route(backend=name, model="other:1") for name in names)
    return Fleet(
        [Backend(name=name, url=f"http://{name}") for name in names],
        [Model(name="chat", routes=routes), Model(name="other", routes=other)],
        Routing(),
    )


def targets(fleet: Fleet, alias: str = "chat") -> list[Target]:
    return candidates(fleet.aliases[alias], 0.0)


def take(fleet: Fleet, target: Target, now_s: float = 0.0) -> Lease:
    return take_lease(target, turn=fleet.next_turn(), now_s=now_s)


def names(found: list[Target]) -> str:
    return "".join(target.host.name for target in found)


def serve(fleet: Fleet, strategy: str, count: int, alias: str = "chat") -> str:
    """Serve requests one after the other; return who got them."""
    chosen = ""
    for _ in range(count):
        target = STRATEGIES[strategy](targets(fleet, alias), fleet.turn)
        take(fleet, target).succeed()
        chosen += target.host.name
    return chosen


# -- candidates


def test_all_hosts_are_candidates_in_the_order_of_the_file() -> None:
    assert names(targets(new_fleet())) == "abc"


def test_tried_hosts_are_no_candidates() -> None:
    fleet = new_fleet()
    assert names(candidates(fleet.aliases["chat"], 0.0, [fleet.hosts["b"]])) == "ac"
    assert candidates(fleet.aliases["chat"], 0.0, list(fleet.hosts.values())) == []


def test_hosts_without_the_model_are_no_candidates() -> None:
    fleet = new_fleet()
    fleet.hosts["a"].installed = {"other:1": Listed()}
    fleet.hosts["b"].installed = {"m:1": Listed()}
    assert names(targets(fleet)) == "bc"
    assert names(targets(fleet, "other")) == "ac"


def test_ejected_hosts_are_candidates_when_their_time_is_over() -> None:
    fleet = new_fleet()
    take(fleet, targets(fleet)[0]).fail(0.0, Cause.SILENT)
    assert names(candidates(fleet.aliases["chat"], 4.9)) == "bc"
    assert names(candidates(fleet.aliases["chat"], 5.0)) == "abc"


def test_a_host_that_is_being_probed_is_no_candidate() -> None:
    fleet = new_fleet()
    first = targets(fleet)[0]
    take(fleet, first).fail(0.0, Cause.SILENT)
    assert take(fleet, first, now_s=5.0).probe
    assert names(candidates(fleet.aliases["chat"], 99.0)) == "bc"


def test_last_resorts_are_ejected_hosts_that_would_answer_at_once() -> None:
    fleet = new_fleet(4)
    a, b, c, d = targets(fleet)
    take(fleet, a).fail(0.0, Cause.SILENT)
    take(fleet, b).fail(0.0, Cause.REFUSED)
    take(fleet, c).fail(0.0, Cause.LOST)
    d.host.installed = {}
    alias = fleet.aliases["chat"]
    assert candidates(alias, 0.0) == []
    assert names(last_resorts(alias, [])) == "bc"
    assert names(last_resorts(alias, [b.host])) == "c"


# -- least busy


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.data())
def test_least_busy_never_picks_a_busier_host(loads: list[int], data: st.DataObject) -> None:
    fleet = new_fleet(len(loads))
    found = targets(fleet)
    for target, load in zip(found, loads, strict=True):
        for _ in range(load):
            take(fleet, target)
        if data.draw(st.booleans()):
            target.host.resident = {"m:1": Loaded()}
    chosen = least_busy(found, 0)
    idle = [target for target in found if target.host.in_flight == min(loads)]
    assert chosen in idle
    warm = [target for target in idle if target.host.resident]
    assert chosen in (warm or idle)
    rivals = [target.host.last_turn for target in warm or idle]
    assert chosen.host.last_turn == min(rivals)


def test_a_tie_goes_to_the_host_with_the_model_loaded() -> None:
    fleet = new_fleet()
    fleet.hosts["a"].resident = {"other:1": Loaded()}
    fleet.hosts["c"].resident = {"m:1": Loaded()}
    assert serve(fleet, "least-busy", 5) == "ccccc"
    assert serve(fleet, "least-busy", 2, "other") == "aa"


def test_a_loaded_model_does_not_outweigh_a_request_in_flight() -> None:
    fleet = new_fleet(2)
    found = targets(fleet)
    fleet.hosts["a"].resident = {"m:1": Loaded()}
    take(fleet, found[0])
    assert least_busy(found, 0).host.name == "b"


def test_a_quiet_day_is_spread_over_all_hosts() -> None:
    # The fault of LiteLLM that this is for: all ties to the first entry of the file.
    assert Counter(serve(new_fleet(), "least-busy", 300)) == {"a": 100, "b": 100, "c": 100}


def test_before_any_request_the_order_of_the_file_decides() -> None:
    assert serve(new_fleet(), "least-busy", 4) == "abca"


def test_a_host_busy_with_one_alias_is_avoided_for_another() -> None:
    fleet = new_fleet(2)
    take(fleet, targets(fleet, "chat")[0])
    assert serve(fleet, "least-busy", 3, "other") == "bbb"


def test_concurrent_requests_fill_all_hosts_evenly() -> None:
    fleet = new_fleet(4)
    for _ in range(40):
        take(fleet, least_busy(targets(fleet), fleet.turn))
        loads = [host.in_flight for host in fleet.hosts.values()]
        assert max(loads) - min(loads) <= 1


# -- round robin


def test_round_robin_visits_all_in_turn() -> None:
    assert serve(new_fleet(), "round-robin", 9) == "abcabcabc"


def test_round_robin_pays_no_heed_to_load() -> None:
    fleet = new_fleet(2)
    for _ in range(3):
        take(fleet, targets(fleet)[0])
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
    found = targets(new_fleet(len(weights), weights))
    turns = 20_000
    counts = Counter(simple_shuffle(found, turn).host.name for turn in range(turns))
    chi_square = 0.0
    for target in found:
        expected = turns * target.weight / sum(weights)
        chi_square += (counts[target.host.name] - expected) ** 2 / expected
    assert chi_square < CHI_SQUARE_99_9[len(weights) - 1]


def test_shuffle_has_no_visible_order() -> None:
    found = targets(new_fleet(2))
    chosen = [simple_shuffle(found, turn).host.name for turn in range(20_000)]
    pairs = Counter(pairwise(chosen))
    expected = 19_999 / 4
    assert sum((n - expected) ** 2 / expected for n in pairs.values()) < CHI_SQUARE_99_9[3]


def test_shuffle_can_be_replayed() -> None:
    found = targets(new_fleet())
    assert [simple_shuffle(found, 7) for _ in range(3)] == [simple_shuffle(found, 7)] * 3


def test_a_weight_of_zero_gets_nothing_while_others_are_there() -> None:
    found = targets(new_fleet(3, (0.0, 1.0, 1.0)))
    assert {simple_shuffle(found, turn).host.name for turn in range(2000)} == {"b", "c"}


def test_a_weight_of_zero_serves_when_nobody_else_does() -> None:
    found = targets(new_fleet(2, (0.0, 0.0)))
    assert simple_shuffle(found, 3) in found


# -- all of them


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_single_candidate_is_chosen(strategy: str) -> None:
    fleet = new_fleet(1)
    assert serve(fleet, strategy, 3) == "aaa"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_choosing_changes_nothing(strategy: str) -> None:
    fleet = new_fleet()
    found = targets(fleet)
    assert STRATEGIES[strategy](found, 5) is STRATEGIES[strategy](found, 5)
    assert (fleet.turn, [host.in_flight for host in fleet.hosts.values()]) == (0, [0, 0, 0])
