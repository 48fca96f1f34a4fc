"""What other gateways have counts when a host is chosen, and each keeps its part of the slots."""

from hypothesis import given
from hypothesis import strategies as st

from arriero.config.settings import Backend, Model, Route, Routing
from arriero.core.fleet import Fleet, Lease, take_lease
from arriero.core.others import TURN_S, State, hear, own_part, state_of
from arriero.core.routing import least_busy, open_mask

MODEL = "m:1"


def fleet(slots: int = 4) -> Fleet:
    backends = [Backend(name=name, url=f"http://{name}", slots=slots) for name in "ab"]
    routes = tuple(Route(backend=one.name, model=MODEL) for one in backends)
    return Fleet(backends, [Model(name="chat", routes=routes)], Routing())


def others_have(a: int = 0, b: int = 0) -> list[State]:
    return [{"http://a": {MODEL: a}, "http://b": {MODEL: b}}]


def chosen(one: Fleet) -> str:
    alias = one.aliases["chat"]
    mask = open_mask(alias, one.roster, 0.0)
    return least_busy(alias, mask, one.roster, one.next_turn()).host.name


@given(st.integers(1, 50), st.integers(1, 8), st.integers(0, 100))
def test_the_parts_of_all_gateways_are_all_slots(slots: int, gateways: int, place: int) -> None:
    parts = [own_part(slots, gateways, place + rank) for rank in range(gateways)]
    assert sum(parts) == slots
    assert max(parts) - min(parts) <= 1


def test_who_is_told_hears_what_was_told() -> None:
    one, other = fleet(), fleet()
    leases = [take_lease(one.aliases["chat"].targets[0], turn, 0.0) for turn in (1, 2)]
    assert state_of(one.hosts.values()) == {"http://a": {MODEL: 2}}
    hear(other.hosts.values(), [state_of(one.hosts.values())], 1, 0.0)
    assert other.hosts["a"].others == 2
    assert chosen(other) == "b"
    for lease in leases:
        lease.succeed()
    assert state_of(one.hosts.values()) == {}
    hear(other.hosts.values(), [{}], 1, 0.0)
    assert other.hosts["a"].others == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans()), max_size=30))
def test_every_host_stands_on_the_level_of_all_requests(
    steps: list[tuple[int, int, bool]],
) -> None:
    one = fleet(slots=100)
    leases: list[Lease] = []
    for a, b, takes in steps:
        hear(one.hosts.values(), others_have(a, b), 0, 0.0)
        if takes:
            leases.append(take_lease(one.aliases["chat"].targets[len(leases) % 2], 1, 0.0))
        elif leases:
            leases.pop().succeed()
        for host in one.hosts.values():
            levels = [at for at, mask in enumerate(one.roster.levels) if mask & host.bit]
            assert levels == [host.in_flight + host.others]


def test_a_slot_that_another_uses_is_taken_but_for_ones_own_part() -> None:
    one = fleet(slots=2)
    alias = one.aliases["chat"]
    hear(one.hosts.values(), others_have(a=2), 0, 0.0)
    assert one.hosts["a"].stations[MODEL].free, "one of two slots is its own"
    lease = take_lease(alias.targets[0], 1, 0.0)
    assert not one.hosts["a"].stations[MODEL].free
    hear(one.hosts.values(), others_have(a=1), 0, 0.0)
    assert not one.hosts["a"].stations[MODEL].free
    hear(one.hosts.values(), others_have(a=0), 0, 0.0)
    assert one.hosts["a"].stations[MODEL].free
    lease.succeed()


def test_a_single_slot_goes_from_one_gateway_to_the_other() -> None:
    free = []
    for turn in range(4):
        pair = fleet(slots=1), fleet(slots=1)
        for rank, one in enumerate(pair):
            hear(one.hosts.values(), others_have(a=1), rank, turn * TURN_S)
        free.append([one.hosts["a"].stations[MODEL].free for one in pair])
    assert free == [[True, False], [False, True]] * 2


def test_room_that_appears_is_told() -> None:
    one = fleet(slots=2)
    told: list[str] = []
    take_lease(one.aliases["chat"].targets[0], 1, 0.0)
    hear(one.hosts.values(), others_have(a=1), 0, 0.0)
    one.roster.on_vacant = lambda station: told.append(station.host.name)
    hear(one.hosts.values(), [], 0, 0.0)
    assert told == ["a"]
