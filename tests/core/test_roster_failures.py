"""Which breaker a failure reaches, who speaks for a host, and how a host comes back."""

import re

import msgspec
import pytest

from arriero.config.settings import Backend, Model, Route, Routing
from arriero.core import blame
from arriero.core.blame import Ejected
from arriero.core.fleet import Fleet, Lease, take_lease, take_probe_lease
from arriero.core.health import Cause
from arriero.core.residency import Residency, Told
from arriero.core.roster import LOAD_PATIENCE_S, PROBE_FIRST_S, Host, Station
from arriero.core.routing import last_resorts, open_mask
from arriero.wire.inventory import Listed, Loaded

ROUTING = Routing(
    strategy="least-busy",
    failures_max=2,
    ejection_s=5.0,
    ejection_max_s=60.0,
    probe_interval_s=0.0,
    slow_start_s=0.0,
)
MODELS = ("m:1", "n:1", "o:1")


def fleet_of(names: str = "ab", slots: int = 4, **routing: float) -> Fleet:
    """Hosts with three models on disk, an alias for each, and `m:1` and `n:1` in memory."""
    fleet = Fleet(
        [Backend(name=name, url=f"http://{name}", slots=slots) for name in names],
        [
            Model(name=model, routes=tuple(Route(backend=name, model=model) for name in names))
            for model in MODELS
        ],
        msgspec.structs.replace(ROUTING, **routing),
    )
    for host in fleet.hosts.values():
        host.installed = {model: Listed() for model in MODELS}
        host.resident = {"m:1": Loaded(), "n:1": Loaded()}
    return fleet


def take(fleet: Fleet, model: str = "m:1", host: str = "a", now_s: float = 0.0) -> Lease:
    target = next(t for t in fleet.aliases[model].targets if t.host.name == host)
    return take_lease(target, fleet.next_turn(), now_s)


def states(host: Host) -> str:
    """The host's state and its models', in letters."""
    found = [host.breaker, *(host.stations[model].breaker for model in MODELS)]
    return "".join("A" if each is None else each.state.name[0] for each in found)


# -- the table


@pytest.mark.parametrize(
    ("cause", "after", "ejected"),
    [
        (Cause.REFUSED, "EAAA", Ejected.HOST),
        (Cause.LOST, "EAAA", Ejected.HOST),
        (Cause.STATUS, "AAAA", Ejected.NOBODY),
        (Cause.LOAD, "AEAA", Ejected.MODEL),
        (Cause.SILENT, "AEAA", Ejected.MODEL),  # the other loaded model is to be asked
    ],
)
def test_each_cause(cause: Cause, after: str, ejected: Ejected) -> None:
    fleet = fleet_of()
    assert take(fleet).fail(1.0, cause) is ejected
    assert states(fleet.hosts["a"]) == after
    assert states(fleet.hosts["b"]) == "AAAA"


def test_every_cause_is_in_the_docstring() -> None:
    table = (blame.__doc__ or "").partition("cause  ")[2].partition("\n\n")[0]
    assert set(re.findall(r"[A-Z]{3,}", table)) == {cause.name for cause in Cause}


def test_statuses_leave_out_the_model_after_failures_max() -> None:
    fleet = fleet_of()
    found = [take(fleet).fail(1.0, Cause.STATUS) for _ in range(2)]
    assert found == [Ejected.NOBODY, Ejected.MODEL]
    assert states(fleet.hosts["a"]) == "AEAA"


# -- silence


def silent(fleet: Fleet, model: str, asked_s: float = 10.0, now_s: float = 20.0) -> Ejected:
    return take(fleet, model, now_s=asked_s).fail(now_s, Cause.SILENT)


def test_silence_has_the_other_models_asked() -> None:
    fleet = fleet_of()
    host = fleet.hosts["a"]
    assert silent(fleet, "m:1") is Ejected.MODEL
    assert fleet.roster.suspects == {host}


def test_an_answer_since_speaks_for_the_host() -> None:
    fleet = fleet_of()
    lease = take(fleet, "m:1", now_s=10.0)
    fleet.roster.sweep(11.0)
    take(fleet, "n:1", now_s=11.0).succeed()
    assert lease.fail(20.0, Cause.SILENT) is Ejected.MODEL
    assert not fleet.roster.suspects


def test_an_answer_afterwards_clears_the_suspicion() -> None:
    fleet = fleet_of()
    silent(fleet, "m:1")
    take(fleet, "n:1", now_s=21.0).succeed()
    assert not fleet.roster.suspects


def test_a_second_silent_model_is_the_hosts_silence() -> None:
    fleet = fleet_of()
    silent(fleet, "m:1")
    assert silent(fleet, "n:1") is Ejected.HOST
    assert states(fleet.hosts["a"]) == "EEEA"
    assert not fleet.roster.suspects


def test_a_host_that_nobody_speaks_for_is_left_out() -> None:
    fleet = fleet_of()
    fleet.hosts["a"].resident = {"m:1": Loaded()}
    assert silent(fleet, "m:1") is Ejected.HOST


def test_the_prober_comes_before_users_when_there_is_one() -> None:
    fleet = fleet_of("a", probe_interval_s=60.0)
    host = fleet.hosts["a"]
    silent(fleet, "m:1")
    silent(fleet, "n:1")
    due_s = host.breaker.until_s
    assert host.breaker.may_probe(due_s)
    assert not host.breaker.may_try(due_s)
    assert host.breaker.may_try(due_s + PROBE_FIRST_S)
    user = take(fleet, "m:1", now_s=due_s)
    assert (user.probe, user.retrial) == (False, False)
    user.abandon(due_s)
    probe = take_probe_lease(fleet.aliases["m:1"].targets[0], due_s)
    assert (probe.probe, probe.retrial) == (True, True)
    assert states(host) == "PPEA"
    probe.succeed()
    assert states(host) == "AAEA", "the other one has to speak for itself"


def test_a_probe_takes_no_turn_and_counts_as_no_attempt() -> None:
    fleet = fleet_of("a")
    host = fleet.hosts["a"]
    lease = take_probe_lease(fleet.aliases["m:1"].targets[0], 1.0)
    assert (host.in_flight, host.served, host.last_turn) == (1, 0, 0)
    lease.succeed()
    assert host.in_flight == 0


# -- who may be asked then


def opened(fleet: Fleet, model: str, now_s: float) -> str:
    fleet.roster.sweep(now_s)
    mask = open_mask(fleet.aliases[model], fleet.roster, now_s)
    return "".join(host.name for host in fleet.roster.hosts_of(mask))


def test_an_ejected_model_leaves_the_hosts_others_open() -> None:
    fleet = fleet_of()
    take(fleet).fail(1.0, Cause.LOAD)
    assert [opened(fleet, model, 1.0) for model in MODELS] == ["b", "ab", "ab"]
    assert opened(fleet, "m:1", 6.0) == "ab", "when its time is over"


def test_one_request_tries_a_model_that_is_due() -> None:
    fleet = fleet_of()
    take(fleet).fail(1.0, Cause.LOAD)
    assert opened(fleet, "m:1", 6.0) == "ab"
    lease = take(fleet, now_s=6.0)
    assert lease.retrial
    assert opened(fleet, "m:1", 6.0) == "b", "one at a time"
    lease.succeed()
    assert opened(fleet, "m:1", 6.0) == "ab"


@pytest.mark.parametrize(("cause", "resort"), [(Cause.LOAD, "a"), (Cause.SILENT, "")])
def test_a_last_resort_is_what_was_not_silent(cause: Cause, resort: str) -> None:
    fleet = fleet_of("a")
    take(fleet).fail(1.0, cause)
    found = last_resorts(fleet.aliases["m:1"], fleet.roster)
    assert "".join(host.name for host in fleet.roster.hosts_of(found)) == resort


def test_while_one_host_loads_the_other_cold_ones_wait_but_not_for_ever() -> None:
    fleet = fleet_of("abc")
    fleet.roster.sweep(100.0)
    station = fleet.hosts["a"].stations["o:1"]
    station.learn(Told.LOAD)
    assert opened(fleet, "o:1", 100.0) == "a"
    assert opened(fleet, "o:1", 100.0 + LOAD_PATIENCE_S) == "abc"
    station.learn(Told.DONE)
    assert opened(fleet, "o:1", 200.0) == "abc"


# -- what a process takes with it


def test_a_process_that_went_away_takes_its_ailments_along() -> None:
    fleet = fleet_of("a")
    host = fleet.hosts["a"]
    silent(fleet, "m:1")
    silent(fleet, "n:1")
    host.gone()
    assert host.breaker.cause is Cause.REFUSED
    host.breaker.on_reachable(21.0)
    assert host.breaker.may_try(21.0)
    assert {station.residency for station in host.stations.values()} == {Residency.UNKNOWN}


def test_eviction_is_told_from_a_restart() -> None:
    fleet = fleet_of("a")
    fleet.roster.sweep(50.0)
    host = fleet.hosts["a"]
    station: Station = host.stations["m:1"]
    host.resident = {"n:1": Loaded()}
    assert (station.evicted_s, station.evictions) == (50.0, 1)
    host.resident = {"m:1": Loaded()}
    host.restarted()
    assert station.evictions == 0


def test_a_missing_model_says_nothing_of_the_others() -> None:
    fleet = fleet_of("a")
    host = fleet.hosts["a"]
    host.stations["o:1"].learn(Told.DONE)  # since the last look
    host.lost("m:1")
    found = [host.stations[model].residency for model in MODELS]
    assert found == [Residency.ABSENT, Residency.LOADED, Residency.LOADED]
    assert [opened(fleet, model, 0.0) for model in MODELS] == ["", "a", "a"]


# -- slow start


def test_a_host_that_is_back_grows_with_its_answers() -> None:
    fleet = fleet_of("a", slots=3, slow_start_s=60.0)
    host = fleet.hosts["a"]
    take(fleet).fail(0.0, Cause.LOST)
    assert opened(fleet, "n:1", 5.0) == "a"
    take(fleet, now_s=5.0).succeed()
    assert host.ramp is not None
    first = take(fleet, now_s=5.0)
    assert [opened(fleet, model, 5.0) for model in MODELS] == ["", "", ""], "whatever the model"
    first.succeed()
    leases = [take(fleet, model, now_s=5.0) for model in ("m:1", "n:1")]
    assert opened(fleet, "m:1", 5.0) == ""
    for lease in leases:
        lease.succeed()
    assert opened(fleet, "m:1", 5.0) == "a"
    assert opened(fleet, "m:1", 65.0) == "a"
    assert host.ramp is None, "its time is over"


def test_failures_do_not_make_it_grow() -> None:
    fleet = fleet_of("a", slots=4, slow_start_s=60.0)
    take(fleet).fail(0.0, Cause.LOST)
    take(fleet, now_s=5.0).succeed()
    take(fleet, now_s=5.0).fail(5.0, Cause.STATUS)
    take(fleet, now_s=5.0).abandon(5.0)
    ramp = fleet.hosts["a"].ramp
    assert ramp is not None
    assert ramp.allowed() == 1
