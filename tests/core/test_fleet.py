"""Leases and reloads: what is counted is what is out, whatever happens in between."""

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from arriero.config.settings import Backend, BackendKind, Model, Route, Routing
from arriero.core.blame import Ejected
from arriero.core.fleet import Fleet, Lease, take_lease
from arriero.core.health import Cause, State
from arriero.core.residency import Residency, Told
from arriero.core.roster import Group, Host, Station
from arriero.core.routing import open_mask
from arriero.wire.inventory import Listed, Loaded

NAMES = ("a", "b", "c")
ROUTING = Routing(
    failures_max=2, ejection_s=5.0, ejection_max_s=20.0, probe_interval_s=0.0, slow_start_s=0.0
)


def backend(name: str, port: int = 1, slots: int | None = None) -> Backend:
    return Backend(name=name, url=f"http://{name}:{port}", slots=slots)


def model(name: str, *hosts: str) -> Model:
    return Model(name=name, routes=tuple(Route(backend=host, model="m:1") for host in hosts))


MIXED = Model(  # different models by one name, two of them on one host
    name="mixed",
    routes=(
        Route(backend="a", model="m:1"),
        Route(backend="a", model="n:1"),
        Route(backend="b", model="n:1"),
    ),
)


def new_fleet(
    previous: Fleet | None = None, routing: Routing = ROUTING, slots: int | None = None
) -> Fleet:
    return Fleet(
        [backend(name, slots=slots) for name in NAMES],
        [model("one", *NAMES), model("two", "c", "b"), MIXED],
        routing,
        previous,
    )


def take(fleet: Fleet, name: str, now_s: float = 0.0) -> Lease:
    target = next(t for t in fleet.aliases["one"].targets if t.host.name == name)
    return take_lease(target, turn=fleet.next_turn(), now_s=now_s)


# -- building


def slots(fleet: Fleet, host: str, model_name: str = "m:1") -> int:
    return fleet.hosts[host].stations[model_name].slots


def routed(name: str, slots: int | None) -> Model:
    return Model(name=name, routes=(Route(backend="a", model="m:1", slots=slots),))


def test_slots_are_the_routes_or_the_backends() -> None:
    fleet = Fleet([backend("a", slots=3), backend("b", slots=4)], [routed("one", 5)], ROUTING)
    assert slots(fleet, "a") == 5
    fleet = Fleet([backend("a", slots=3)], [routed("one", None)], ROUTING)
    assert slots(fleet, "a") == 3


def test_of_different_slots_for_one_model_the_most_count() -> None:
    models = [routed("one", 2), routed("two", 6), routed("three", None)]
    assert slots(Fleet([backend("a", slots=9)], models, ROUTING), "a") == 6


def test_a_reload_changes_slots_under_way() -> None:
    before = Fleet([backend("a", slots=9)], [routed("one", 3)], ROUTING)
    leases = [take(before, "a") for _ in range(3)]
    group = before.aliases["one"].branches[0].group
    assert group.open == 0
    after = Fleet([backend("a", slots=9)], [routed("one", 2)], ROUTING, before)
    assert group.open == 0, "one beyond the new limit is still at work"
    leases.pop().succeed()
    assert group.open == 0
    leases.pop().succeed()
    assert group.open
    Fleet([backend("a", slots=9)], [routed("one", 1)], ROUTING, after)
    assert group.open == 0
    leases.pop().succeed()
    assert group.open


def test_aliases_that_share_a_station_share_a_cell() -> None:
    fleet = new_fleet()
    assert len({alias.cell for alias in fleet.aliases.values()}) == 1
    apart = Fleet([backend("a"), backend("b")], [model("x", "a"), model("y", "b")], ROUTING)
    assert len({alias.cell for alias in apart.aliases.values()}) == 2


def test_aliases_share_their_hosts() -> None:
    fleet = new_fleet()
    one, two = fleet.aliases["one"], fleet.aliases["two"]
    assert [target.host.name for target in one.targets] == ["a", "b", "c"]
    assert [target.host.name for target in two.targets] == ["c", "b"]
    assert one.targets[2].host is two.targets[0].host is fleet.hosts["c"]
    assert one.settings.name == one.name == "one"


def test_a_target_carries_its_route() -> None:
    route = Route(backend="a", model="m:1", weight=2.5)
    fleet = Fleet([backend("a")], [Model(name="x", routes=(route,))], ROUTING)
    (target,) = fleet.aliases["x"].targets
    assert (target.model, target.weight, target.timeouts) == ("m:1", 2.5, route.timeouts)


def test_an_unknown_inventory_is_given_a_chance() -> None:
    host = new_fleet().hosts["a"]
    assert host.has("m:1")
    host.installed = {}
    assert not host.has("m:1")
    host.installed = {"m:1": Listed()}
    assert host.has("m:1")


def test_a_host_shows_its_state_to_a_debugger() -> None:
    fleet = new_fleet()
    take(fleet, "a")
    assert repr(fleet.hosts["a"]) == "<Host a AVAILABLE in_flight=1>"


# -- leases


def test_a_lease_counts_from_taking_to_release() -> None:
    fleet = new_fleet()
    host = fleet.hosts["a"]
    first, second = take(fleet, "a"), take(fleet, "a")
    assert (host.in_flight, host.served, host.last_turn) == (2, 2, 2)
    first.succeed()
    second.abandon(0.0)
    assert (host.in_flight, host.served) == (0, 2)


@pytest.mark.parametrize("again", ["succeed", "fail", "abandon"])
@pytest.mark.parametrize("first", ["succeed", "fail", "abandon"])
def test_a_lease_is_released_once(first: str, again: str) -> None:
    fleet = new_fleet()
    lease = take(fleet, "a")
    release(lease, first, 0.0)
    with pytest.raises(AssertionError, match="exactly once"):
        release(lease, again, 0.0)
    assert fleet.hosts["a"].in_flight == 0


def release(lease: Lease, how: str, now_s: float, cause: Cause = Cause.STATUS) -> Ejected:
    if how == "succeed":
        lease.succeed()
    elif how == "fail":
        return lease.fail(now_s, cause)
    else:
        lease.abandon(now_s)
    return Ejected.NOBODY


def test_failing_tells_of_an_ejection_once() -> None:
    fleet = new_fleet()
    first, second = take(fleet, "a"), take(fleet, "a")
    assert first.fail(0.0, Cause.SILENT)
    assert not second.fail(0.0, Cause.SILENT)


def test_the_probe_is_marked_and_its_success_lifts_the_ejection() -> None:
    fleet = new_fleet()
    take(fleet, "a").fail(0.0, Cause.SILENT)
    probe = take(fleet, "a", now_s=5.0)
    late = take(fleet, "a", now_s=5.0)
    assert (probe.probe, late.probe) == (True, False)
    states = []
    for lease in (late, probe):
        lease.succeed()
        states.append(fleet.hosts["a"].breaker.state)
    assert states == [State.PROBING, State.AVAILABLE]


# -- reloads


def test_a_reload_keeps_unchanged_hosts_with_their_state() -> None:
    old = new_fleet()
    lease = take(old, "a")
    old.hosts["b"].resident = {}
    new = Fleet([backend("a"), backend("b", port=2)], [model("one", "a", "b")], ROUTING, old)
    assert new.hosts["a"] is old.hosts["a"]
    assert new.hosts["b"] is not old.hosts["b"]
    assert new.hosts["a"].in_flight == 1
    lease.succeed()
    assert new.hosts["a"].in_flight == 0


def test_a_reload_does_not_make_new_turns_look_old() -> None:
    old = new_fleet()
    for _ in range(1000):
        take(old, "a").succeed()
        take(old, "b").succeed()
    new = new_fleet(old)
    take(new, "a").succeed()
    assert new.hosts["a"].last_turn > new.hosts["b"].last_turn


def test_a_reload_brings_its_limits_to_kept_hosts() -> None:
    old = new_fleet()
    new = new_fleet(old, Routing(failures_max=1, ejection_s=7.0, ejection_max_s=9.0))
    assert take(new, "a").fail(0.0, Cause.STATUS) is Ejected.MODEL
    assert take(new, "a").fail(0.0, Cause.LOST) is Ejected.HOST
    breaker = new.hosts["a"].stations["m:1"].breaker
    assert breaker is not None
    assert breaker.until_s == new.hosts["a"].breaker.until_s == 7.0


@pytest.mark.parametrize(
    ("kind", "model_name"), [("ollama", "llama3:latest"), ("openai", "llama3")]
)
def test_ollama_models_get_their_tag(kind: BackendKind, model_name: str) -> None:
    host = Backend(name="a", url="http://a", kind=kind)
    route = Route(backend="a", model="llama3")
    fleet = Fleet([host], [Model(name="x", routes=(route,))], ROUTING)
    assert fleet.aliases["x"].targets[0].model == model_name


# -- any history


class LeaseMachine(RuleBasedStateMachine):
    """Real leases beside a naive model: a list of what is out, and a count for each host."""

    leases: Bundle[Lease] = Bundle("leases")
    routing = ROUTING
    slots: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.fleet = new_fleet(routing=self.routing, slots=self.slots)
        self.out: list[Lease] = []
        self.served: dict[Host, int] = dict.fromkeys(self.fleet.hosts.values(), 0)

    @rule(target=leases, alias=st.sampled_from(["one", "two", "mixed"]), pick=st.integers(0, 2))
    def take(self, alias: str, pick: int) -> Lease:
        targets = self.fleet.aliases[alias].targets
        target = targets[pick % len(targets)]
        due = target.host.breaker.state is State.EJECTED and target.host.breaker.may_try(self.now_s)
        lease = take_lease(target, turn=self.fleet.next_turn(), now_s=self.now_s)
        assert lease.probe is due
        self.out.append(lease)
        self.served[target.host] += 1
        return lease

    @rule(
        lease=consumes(leases),
        how=st.sampled_from(["succeed", "fail", "abandon"]),
        cause=st.sampled_from(Cause),
    )
    def release(self, lease: Lease, how: str, cause: Cause) -> None:
        breaker = lease.target.host.breaker
        before = (breaker.state, breaker.until_s)
        own = lease.target.station.breaker
        ejected = release(lease, how, self.now_s, cause)
        own = own or lease.target.station.breaker
        self.out.remove(lease)
        if not lease.probe and before[0] is not State.AVAILABLE:
            assert (breaker.state, breaker.until_s) == before  # late ends change no ejection
        if ejected:
            left_out = breaker if ejected is Ejected.HOST else own
            assert left_out is not None
            assert left_out.state is State.EJECTED
            assert left_out.until_s > self.now_s
        with pytest.raises(AssertionError, match="exactly once"):
            release(lease, how, self.now_s, cause)

    @rule(seconds=st.floats(0, 30))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds
        self.fleet.roster.sweep(self.now_s)

    @rule(name=st.sampled_from(NAMES), told=st.sampled_from([Told.LOAD, Told.DONE, Told.FAILED]))
    def load(self, name: str, told: Told) -> None:
        self.fleet.hosts[name].stations["m:1"].learn(told)

    @rule(name=st.sampled_from(NAMES))
    def process_is_another(self, name: str) -> None:
        host = self.fleet.hosts[name]
        host.gone()
        assert not any(station.resident for station in host.stations.values())

    @rule(name=st.sampled_from(NAMES))
    def reachable(self, name: str) -> None:
        self.fleet.hosts[name].breaker.on_reachable(self.now_s)

    @rule(name=st.sampled_from(NAMES), models=st.none() | st.sets(st.sampled_from(["m:1", "n:1"])))
    def inventory(self, name: str, models: set[str] | None) -> None:
        host = self.fleet.hosts[name]
        host.installed = None if models is None else {model: Listed() for model in models}
        host.resident = {model: Loaded() for model in models or ()}

    @rule(name=st.sampled_from(NAMES))
    def model_is_missing(self, name: str) -> None:
        self.fleet.hosts[name].lost("m:1")

    @rule(changed=st.sets(st.sampled_from(NAMES)), port=st.integers(1, 3))
    def reload(self, changed: set[str], port: int) -> None:
        old = self.fleet
        backends = [
            backend(name, port, slots=port) if name in changed else host.settings
            for name, host in old.hosts.items()
        ]
        models = [alias.settings for alias in old.aliases.values()]
        self.fleet = Fleet(backends, models, self.routing, old)
        for name, host in self.fleet.hosts.items():
            assert (host is old.hosts[name]) is (host.settings == old.hosts[name].settings)
            self.served.setdefault(host, 0)

    @invariant()
    def counts_are_those_of_the_leases_out(self) -> None:
        for host, served in self.served.items():
            assert host.in_flight == sum(lease.target.host is host for lease in self.out)
            assert host.served == served

    @invariant()
    def the_masks_say_what_the_objects_say(self) -> None:
        roster = self.fleet.roster
        for host in self.served:
            assert [n for n, level in enumerate(roster.levels) if level & host.bit] == [
                host.in_flight
            ]
            available = host.breaker.state is State.AVAILABLE
            assert bool(roster.available & host.bit) is available
            assert bool(roster.withheld & host.bit) is not available
            for station in host.stations.values():
                group, bit = station.group, host.bit
                assert station.running == sum(lease.target.station is station for lease in self.out)
                usable = host.has(station.model) and self.lets_through(station)
                assert bool(group.usable & bit) is usable
                assert bool(group.free & bit) is has_room(station)
                assert bool(group.resident & bit) is (station.residency is Residency.LOADED)
                loads = station.residency is Residency.LOADING
                assert bool(group.loading & bit) <= loads  # others may wait no more for it
                assert group.open == group.usable & group.free & here(group)
                resort = usable or (own := station.breaker) is None or own.cause is Cause.SILENT
                assert not (group.resort & bit and resort)

    def lets_through(self, station: Station) -> bool:
        return station.breaker is None or station.breaker.may_try(self.now_s)

    @invariant()
    def open_hosts_are_those_that_a_look_at_each_target_finds(self) -> None:
        for alias in self.fleet.aliases.values():
            found = {
                target.host
                for target in alias.targets
                if target.host.has(target.model)
                and target.host.breaker.may_try(self.now_s)
                and self.lets_through(target.station)
                and has_room(target.station)
                and is_here(target.station)
            }
            mask = open_mask(alias, self.fleet.roster, self.now_s)
            assert set(self.fleet.roster.hosts_of(mask)) == found

    @invariant()
    def one_probe_is_out_exactly_while_probing(self) -> None:
        for host in self.served:
            probes = [lease for lease in self.out if lease.probe and lease.target.host is host]
            assert len(probes) == (host.breaker.state is State.PROBING)
            for station in host.stations.values():
                own = [each for each in self.out if each.retrial and each.target.station is station]
                tried = station.breaker is not None and station.breaker.state is State.PROBING
                assert len(own) == tried

    def teardown(self) -> None:
        for lease in self.out:
            lease.abandon(self.now_s)
        assert all(host.in_flight == 0 for host in self.served)
        assert all(host.breaker.state is not State.PROBING for host in self.served)


def has_room(station: Station) -> bool:
    ramp = station.host.ramp
    held = ramp is not None and station.host.in_flight >= ramp.allowed()
    return station.running < station.slots and not held


def here(group: Group) -> int:
    """Return the hosts that requests need not wait for another one's memory instead."""
    if group.loading:
        return group.resident | group.loading
    if group.patient and group.resident & group.usable:
        return group.resident | group.empty
    return -1


def is_here(station: Station) -> bool:
    """Say whether nobody has to wait for another host instead."""
    return bool(here(station.group) & station.host.bit)


class SlowStartMachine(LeaseMachine):
    """The same with hosts that come back slowly, and two slots."""

    routing = msgspec.structs.replace(ROUTING, slow_start_s=20.0)
    slots = 2


TestLeases = LeaseMachine.TestCase
TestSlowLeases = SlowStartMachine.TestCase
TestSlowLeases.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLeases.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
