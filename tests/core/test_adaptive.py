from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.config.settings import Backend, Model, Route, Routing
from arriero.core.adaptive import chain_for, cheapest
from arriero.core.ask import Ask, Priority
from arriero.core.fleet import Fleet, Lease, take_lease
from arriero.core.health import Cause
from arriero.core.learning import answered, sent
from arriero.core.prefix import chain_of
from arriero.core.roster import Host, Station
from arriero.core.routing import open_mask
from arriero.core.strategies import choose
from arriero.wire.canonical import Chat, Message, Sampling, Usage
from arriero.wire.inventory import Listed, Loaded

MODEL = "m:1"
SYSTEM = "You are terse. " * 300


def new_fleet(count: int = 4, slots: int = 4, **settings: Any) -> Fleet:
    names = [chr(ord("a") + number) for number in range(count)]
    routes = tuple(Route(backend=name, model=MODEL) for name in names)
    other = tuple(Route(backend=name, model="other:1") for name in names)
    fleet = Fleet(
        [Backend(name=name, url=f"http://{name}", slots=slots) for name in names],
        [
            Model(name="chat", routes=routes, strategy="adaptive", **settings),
            Model(name="other", routes=other, strategy="least-busy"),
        ],
        Routing(probe_interval_s=0.0, slow_start_s=0.0),
    )
    for host in fleet.hosts.values():
        host.installed = {MODEL: Listed(), "other:1": Listed()}
        host.resident = {MODEL: Loaded(8192, 100, 100)}
    return fleet


def ask(*texts: str, session: str = "", tokens: int = 0) -> Ask:
    roles: tuple[Any, ...] = ("system", "user", "assistant", "user", "assistant", "user")
    messages = [Message(role, text) for role, text in zip(roles, texts, strict=False)]
    request = Chat(model="chat", messages=messages, sampling=Sampling())
    prompt_tokens = tokens or sum(len(text) for text in texts) // 4
    return Ask("alice", Priority.INTERACTIVE, session, prompt_tokens, 256, request)


def chosen(fleet: Fleet, asked: Ask) -> str:
    alias = fleet.aliases["chat"]
    mask = open_mask(alias, fleet.roster, 0.0)
    return choose(alias, mask, fleet.roster, asked, fleet.turn).host.name


def station(fleet: Fleet, name: str) -> Station:
    return fleet.hosts[name].stations[MODEL]


def send(fleet: Fleet, name: str, asked: Ask) -> Lease:
    target = next(one for one in fleet.aliases["chat"].targets if one.host.name == name)
    lease = take_lease(target, fleet.next_turn(), 0.0)
    sent(target.station, asked)
    return lease


def occupy(fleet: Fleet, name: str, times: int = 1) -> None:
    target = next(one for one in fleet.aliases["other"].targets if one.host.name == name)
    for _ in range(times):
        take_lease(target, fleet.next_turn(), 0.0)


# -- what weighs


def test_idle_hosts_take_turns() -> None:
    fleet = new_fleet()
    names = ""
    for number in range(8):
        name = chosen(fleet, ask(f"{number}" * 4000))
        send(fleet, name, ask(f"{number}" * 4000)).succeed()
        names += name
    assert names == "abcdabcd"


def test_a_conversation_goes_where_it_was() -> None:
    fleet = new_fleet()
    send(fleet, "c", ask(SYSTEM, "hello")).succeed()
    assert chosen(fleet, ask(SYSTEM, "hello", "hi there", "tell me more")) == "c"


def test_a_much_busier_host_loses_its_conversation() -> None:
    fleet = new_fleet()
    send(fleet, "c", ask(SYSTEM, "hello")).succeed()
    send(fleet, "d", ask(SYSTEM, "something else")).succeed()
    # At c only the last words are new, at d a little more: c may be a little busier, no more.
    again = ask(SYSTEM, "hello", "hi there " * 40, "tell me more " * 20)
    occupy(fleet, "c")
    assert chosen(fleet, again) == "c"
    occupy(fleet, "c", 3)
    assert chosen(fleet, again) == "d"


def test_requests_for_other_models_make_a_host_busy_too() -> None:
    fleet = new_fleet(count=2)
    occupy(fleet, "a")
    assert [chosen(fleet, ask(f"{number}" * 400)) for number in range(4)] == ["b"] * 4


def test_a_loaded_host_beats_an_idle_one_that_would_have_to_load() -> None:
    fleet = new_fleet(count=3)
    for name in "bc":
        fleet.hosts[name].resident = {}
    occupy(fleet, "a", 3)
    assert chosen(fleet, ask("hello" * 100)) == "a"
    station(fleet, "a").group.paces.load_s = 0.01
    assert chosen(fleet, ask("hello" * 100)) == "b"


def test_a_faster_host_is_worth_some_waiting() -> None:
    fleet = new_fleet(count=2)
    paces = station(fleet, "a").group.paces
    paces.measured(1, 8000, 8.0, 300, 3.0)
    paces.measured(2, 8000, 1.0, 300, 3.0)
    occupy(fleet, "b", 2)
    assert chosen(fleet, ask("hello" * 1000)) == "b"
    occupy(fleet, "b", 8)
    assert chosen(fleet, ask("hello" * 1000)) == "a"


def test_long_answers_go_where_they_are_written_fast() -> None:
    fleet = new_fleet(count=2)
    paces = station(fleet, "a").group.paces
    paces.measured(1, 8000, 2.0, 300, 10.0)
    paces.measured(2, 8000, 2.0, 300, 3.0)
    assert chosen(fleet, ask("hello" * 100)) == "b"


def test_a_model_that_spills_out_of_video_memory_counts_as_slow() -> None:
    fleet = new_fleet(count=2)
    fleet.hosts["a"].resident = {MODEL: Loaded(8192, 100, 40)}
    assert [chosen(fleet, ask(f"{number}" * 400)) for number in range(4)] == ["b"] * 4


def test_the_named_conversation_breaks_ties() -> None:
    fleet = new_fleet()
    send(fleet, "c", ask("Today is Monday. " + SYSTEM, session="alice:1")).succeed()
    assert chosen(fleet, ask("Today is Tuesday. " + SYSTEM, session="alice:1")) == "c"
    assert chosen(fleet, ask("Today is Tuesday. " + SYSTEM, session="alice:2")) == "a"


def test_an_empty_prompt_goes_somewhere() -> None:
    assert chosen(new_fleet(), ask("")) == "a"


# -- what is learnt


def test_a_model_that_leaves_the_memory_takes_its_caches_along() -> None:
    fleet = new_fleet(count=2)
    send(fleet, "b", ask(SYSTEM, "hello")).succeed()
    fleet.hosts["b"].resident = {}
    fleet.hosts["b"].resident = {MODEL: Loaded()}
    assert len(station(fleet, "b").group.prefixes) == 0


@pytest.mark.parametrize("cause", [Cause.LOST, Cause.REFUSED])
def test_a_host_whose_process_went_away_is_thought_to_hold_nothing(cause: Cause) -> None:
    fleet = new_fleet(count=2)
    send(fleet, "b", ask(SYSTEM, "hello")).succeed()
    lease = send(fleet, "b", ask(SYSTEM, "hello", "hi", "more"))
    lease.fail(0.0, cause)
    assert len(station(fleet, "b").group.prefixes) == 0


def test_a_failure_of_a_live_process_leaves_its_caches() -> None:
    fleet = new_fleet(count=2)
    send(fleet, "b", ask(SYSTEM, "hello")).fail(0.0, Cause.STATUS)
    assert len(station(fleet, "b").group.prefixes) > 0


def test_speed_is_learnt_from_prompts_that_were_new_and_undisturbed() -> None:
    fleet = new_fleet(count=2)
    one = station(fleet, "a")
    paces = one.group.paces

    def answer(asked: Ask, prompt_s: float, *, busy: int = 0) -> float:
        target = fleet.aliases["chat"].targets[0]
        leases = [take_lease(target, fleet.next_turn(), 0.0) for _ in range(busy + 1)]
        answered(sent(one, asked), Usage(1000, 100, 0, prompt_s, 1.0))
        for lease in leases:
            lease.succeed()
        return 1 / paces.of(one.host.bit).prompt_s

    first = answer(ask("1" * 4000), 0.5)
    assert first == pytest.approx(2000, rel=0.1)
    assert answer(ask("1" * 4000), 5.0) == first  # held: nobody knows what those seconds were for
    assert answer(ask("2" * 4000), 5.0, busy=1) == first  # shared the host
    assert answer(ask("3" * 4000), 5.0) < first / 2


def told(
    fleet: Fleet, asked: Ask, cached: int, prompt_s: float = 0.0, *, busy: bool = False
) -> None:
    """Ask the host a, and have it tell how much of the prompt it held."""
    one, target = station(fleet, "a"), fleet.aliases["chat"].targets[0]
    leases = [take_lease(target, fleet.next_turn(), 0.0) for _ in range(1 + busy)]
    tokens = asked.prompt_tokens
    answered(sent(one, asked), Usage(tokens, 100, cached, prompt_s, 1.0, cached_told=True))
    for lease in leases:
        lease.succeed()


def holds(fleet: Fleet, asked: Ask) -> bool:
    prefixes = station(fleet, "a").group.prefixes
    return prefixes.held(station(fleet, "a").host.bit, chain_for(asked, fleet.roster)) > 0.5


OLD, SECOND, YOUNG = (ask(f"{letter} " * 2000) for letter in "oyz")


@pytest.mark.parametrize(
    ("cached", "kept"), [(SECOND.prompt_tokens, True), (600, True), (400, False), (0, False)]
)
def test_what_a_server_has_let_go_of_is_forgotten(cached: int, *, kept: bool) -> None:
    fleet = new_fleet(count=2)
    for asked in (OLD, SECOND, YOUNG):
        told(fleet, asked, 0)
    told(fleet, SECOND, cached)
    assert holds(fleet, OLD) is kept  # it was used before what turned out to be gone
    assert holds(fleet, YOUNG)
    assert holds(fleet, SECOND), "it was sent once more"


def test_of_a_busy_host_a_miss_proves_nothing() -> None:
    fleet = new_fleet(count=2)
    for asked in (OLD, SECOND):
        told(fleet, asked, 0)
    told(fleet, SECOND, 0, busy=True)  # its prompt may still be being read beside this one
    assert holds(fleet, OLD)


def test_a_short_beginning_proves_nothing() -> None:
    fleet = new_fleet(count=2)
    told(fleet, OLD, 0)
    told(fleet, ask("short"), 0)
    told(fleet, ask("short"), 0)
    assert holds(fleet, OLD)


def test_a_server_that_tells_its_cache_tells_its_speed_with_every_prompt() -> None:
    fleet = new_fleet(count=2)
    told(fleet, OLD, 0, prompt_s=0.5)
    tokens = OLD.prompt_tokens
    bit, paces = station(fleet, "a").host.bit, station(fleet, "a").group.paces
    assert 1 / paces.of(bit).prompt_s == pytest.approx(tokens / 0.5, rel=0.1)
    for _ in range(5):
        told(fleet, OLD, tokens - 200, prompt_s=0.4)
    assert 1 / paces.of(bit).prompt_s < tokens / 0.5 * 0.75


# -- against looking at every host

hosts_state = st.tuples(
    st.booleans(),  # resident
    st.integers(0, 3),  # in flight
    st.integers(0, 3),  # how much of the conversation it was sent
    st.sampled_from([0, 500, 2000, 8000]),  # prefill tokens a second, 0: not measured
    st.sampled_from([20, 100]),
)


def cost_at(host: Host, asked: Ask) -> float:
    one = host.stations[MODEL]
    chain = chain_of(asked.request)
    found = one.group.prefixes.holders(host.bit, chain)
    held = found[0][1] / chain.length if found else 0.0
    tokens = max(asked.prompt_tokens * (1 - held), 1.0) if held else float(asked.prompt_tokens)
    pace = one.group.paces.of(host.bit)
    load_s = 0.0 if one.resident else one.group.paces.load_s
    read_s = tokens * pace.prompt_s + load_s
    return read_s * (host.in_flight + 1) + asked.output_tokens * pace.answer_s


@given(st.lists(hosts_state, min_size=1, max_size=9), st.integers(0, 511))
def test_nobody_is_cheaper_than_the_chosen_hosts(
    states: list[tuple[bool, int, int, int, int]], hosts: int
) -> None:
    fleet = new_fleet(count=len(states), slots=64)
    words = (SYSTEM, "hello " * 50, "hi there " * 50, "tell me more " * 50)
    for host, (resident, busy, said, prefill_tps, decode_tps) in zip(
        fleet.hosts.values(), states, strict=True
    ):
        if not resident:
            host.resident = {}
        occupy(fleet, host.name, busy)
        if said:
            send(fleet, host.name, ask(*words[:said])).succeed()
        if prefill_tps:
            paces = host.stations[MODEL].group.paces
            paces.measured(host.bit, prefill_tps, 1.0, decode_tps, 1.0)
    mask = hosts & ((1 << len(states)) - 1) or 1
    asked = ask(*words)
    tied, cost = cheapest(station(fleet, "a").group, mask, fleet.roster, asked)
    costs = {host.bit: cost_at(host, asked) for host in fleet.roster.hosts_of(mask)}
    least = min(costs.values())
    assert cost == pytest.approx(least, rel=1e-9)
    assert tied & mask == tied != 0
    for bit, one in costs.items():
        if tied & bit:
            assert one == pytest.approx(least, rel=1e-9)
