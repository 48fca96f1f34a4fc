"""What a look at a backend changes in what is known of its host."""

import logging
from typing import Literal

import pytest
from tests.fleet.backends import spawn

from arriero.config.settings import Backend, BackendKind, Model, Route, Routing
from arriero.core.fleet import Fleet
from arriero.core.health import Cause, State
from arriero.core.prefix import Chain
from arriero.core.residency import Residency, Told
from arriero.core.roster import Host, Roster
from arriero.core.routing import open_mask
from arriero.fleet.inventory import Inventory, report_digests
from arriero.fleet.pool import Pool
from arriero.testing.clock import LoopClock
from arriero.testing.faults import Fault, Kind
from arriero.testing.ollama import OllamaSim, SimModel
from arriero.testing.openai_server import OpenAiSim
from arriero.wire.inventory import Listed, Loaded

ROUTING = Routing(inventory_timeout_s=0.1, failures_max=2)


def watched(url: str, kind: BackendKind = "ollama") -> tuple[Host, Inventory, list[str]]:
    """A host, what looks at it, and whom that ejected."""
    clock = LoopClock()
    backend = Backend(name="a", url=url, kind=kind)
    host = Host(backend, ROUTING, Roster())
    ejected: list[str] = []
    pool = Pool(backend, spawn)
    return host, Inventory(host, pool, ROUTING, clock, ejected.append), ejected


async def test_a_look_tells_models_residents_and_version() -> None:
    async with OllamaSim([SimModel("llama3"), SimModel("qwen3:8b")], version="0.33.1") as sim:
        host, inventory, _ = watched(sim.url)
        assert host.has("anything"), "nobody knows yet"
        await inventory.poll()
        assert set(host.installed or ()) == {"llama3:latest", "qwen3:8b"}
        assert host.version == "0.33.1"
        assert not host.resident
        assert not host.has("anything")


async def test_the_version_is_asked_once() -> None:
    async with OllamaSim([SimModel("llama3")]) as sim:
        _, inventory, _ = watched(sim.url)
        for _ in range(3):
            await inventory.poll()
        assert sim.stats.endpoints["GET /api/version"] == 1
        assert sim.stats.endpoints["GET /api/tags"] == 3


async def test_looking_generates_nothing() -> None:
    async with OllamaSim([SimModel("llama3")]) as sim:
        _, inventory, _ = watched(sim.url)
        await inventory.poll()
        assert {seen.method for seen in sim.requests} == {"GET"}


async def test_a_host_that_is_gone_is_ejected_and_comes_back_cold() -> None:
    async with OllamaSim([SimModel("llama3")]) as sim:
        host, inventory, ejected = watched(sim.url)
        await inventory.poll()
        host.resident = {"llama3:latest": Loaded()}
        sim.kill()
        await inventory.poll()
        assert (host.breaker.state, host.breaker.cause) == (State.EJECTED, Cause.REFUSED)
        assert ejected == ["a"]
        assert not host.resident
        await inventory.poll()
        assert ejected == ["a"], "once"
        await sim.accept()
        await inventory.poll()
        assert host.breaker.may_try(LoopClock().now_s())
        assert host.breaker.state is State.EJECTED, "only a generation clears it"
        assert sim.stats.endpoints["GET /api/version"] == 2, "it may be another one now"


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind=Kind.HANG, endpoint="/api/tags"),
        Fault(kind=Kind.STATUS, endpoint="/api/ps"),
        Fault(kind=Kind.STATUS, endpoint="/api/tags", status=404),
    ],
)
async def test_a_bad_answer_weighs_less_than_none(fault: Fault) -> None:
    async with OllamaSim([SimModel("llama3")]) as sim:
        host, inventory, ejected = watched(sim.url)
        await inventory.poll()
        known = host.installed
        sim.faults.add(fault)
        await inventory.poll()
        assert host.breaker.state is State.AVAILABLE
        assert host.installed == known, "what was known stays"
        await inventory.poll()
        assert ejected == ["a"]


async def test_a_look_clears_no_wedged_host() -> None:
    async with OllamaSim([SimModel("llama3")]) as sim:
        host, inventory, _ = watched(sim.url)
        host.breaker.on_failure(LoopClock().now_s(), probe=False, cause=Cause.SILENT)
        await inventory.poll()
        assert not host.breaker.may_try(LoopClock().now_s())


async def test_an_openai_server_lists_its_models() -> None:
    async with OpenAiSim(SimModel("qwen3")) as sim:
        host, inventory, _ = watched(sim.url, "openai")
        await inventory.poll()
        assert set(host.installed or ()) == {"qwen3"}


async def test_an_openai_server_without_a_list_is_believed() -> None:
    async with OpenAiSim(SimModel("qwen3")) as sim:
        sim.faults.add(Fault(kind=Kind.STATUS, status=404, endpoint="/v1/models"))
        host, inventory, _ = watched(sim.url, "openai")
        await inventory.poll()
        assert host.has("whatever it is called")
        assert host.breaker.failures == 0


async def test_a_restart_between_two_looks_is_noticed() -> None:
    async with OllamaSim([SimModel("llama3")]) as sim:
        host, inventory, _ = watched(sim.url)
        station = host.station("llama3:latest")
        sim.hold("llama3")
        await inventory.poll()
        assert station.resident
        await sim.restart()
        await inventory.poll()
        assert station.residency is Residency.INSTALLED
        assert station.evictions == 0, "it was not driven out"
        assert host.breaker.state is State.AVAILABLE, "nobody noticed, nobody is to blame"
        assert sim.stats.endpoints["GET /api/version"] == 2, "it may be another one now"


async def test_a_load_since_the_last_look_is_no_eviction() -> None:
    async with OllamaSim([SimModel("llama3")]) as sim:
        host, inventory, _ = watched(sim.url)
        await inventory.poll()
        station = host.station("llama3:latest")
        sim.hold("llama3")
        station.learn(Told.ANSWERED)
        chain = Chain(hashes=[7], chars=[10], sent=[7])
        station.group.prefixes.note(host.bit, chain)
        await inventory.poll()
        assert (station.resident, station.evictions) == (True, 0)
        assert station.group.prefixes.held(host.bit, chain) == 1, "its cache is still known"


async def test_a_model_that_was_driven_out_is_told_from_a_restart() -> None:
    async with OllamaSim([SimModel("llama3"), SimModel("qwen3:8b")]) as sim:
        host, inventory, _ = watched(sim.url)
        station = host.station("llama3:latest")
        host.roster.now_s = 7.0
        sim.hold("llama3", "qwen3:8b")
        await inventory.poll()
        host.resident = {"qwen3:8b": Loaded()}
        assert station.residency is Residency.INSTALLED
        assert (station.evicted_s, station.evictions) == (7.0, 1)


async def test_what_ailed_a_process_goes_with_it() -> None:
    async with OllamaSim([SimModel("llama3")]) as sim:
        host, inventory, _ = watched(sim.url)
        await inventory.poll()
        host.breaker.on_failure(LoopClock().now_s(), probe=False, cause=Cause.SILENT)
        sim.kill()
        await inventory.poll()
        await sim.accept()
        await inventory.poll()
        assert host.breaker.cause is Cause.REFUSED, "a wedged process does not come back wedged"
        assert host.breaker.may_try(LoopClock().now_s())


def fleet_of(*digests: str, rule: Literal["same", "mixed"] = "same") -> Fleet:
    """Hosts that have these weights of one model; "" is not known."""
    names = "abcdefgh"[: len(digests)]
    routes = tuple(Route(backend=name, model="llama3") for name in names)
    fleet = Fleet(
        [Backend(name=name, url=f"http://{name}") for name in names],
        [Model(name="llama", routes=routes, digests=rule)],
        ROUTING,
    )
    for name, digest in zip(names, digests, strict=True):
        fleet.hosts[name].installed = {"llama3:latest": Listed(digest=digest)}
    return fleet


def told_by(fleet: Fleet) -> list[str]:
    """What looking at the weights logs."""
    seen: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]  # a list is all it takes
    logger = logging.getLogger("arriero.fleet")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        report_digests(fleet)
    finally:
        logger.removeHandler(handler)
    return seen


def test_different_weights_are_told_once() -> None:
    fleet = fleet_of("1", "2", "1", "")
    assert told_by(fleet) == ["same tag, different weights"]
    assert told_by(fleet) == []
    fleet.hosts["b"].installed = {"llama3:latest": Listed(digest="1")}
    assert told_by(fleet) == ["weights agree"]


def test_the_odd_host_is_left_out_until_it_agrees() -> None:
    fleet = fleet_of("1", "2", "1")
    report_digests(fleet)
    alias = fleet.aliases["llama"]

    def used() -> str:
        hosts = fleet.roster.hosts_of(open_mask(alias, fleet.roster, 0.0))
        return "".join(host.name for host in hosts)

    assert used() == "ac"
    for name in "ac":  # away: an answer by other weights is better than none
        fleet.hosts[name].breaker.on_failure(0.0, probe=False, cause=Cause.REFUSED)
    told_by(fleet)
    assert used() == "b"
    fleet.hosts["b"].installed = {"llama3:latest": Listed(digest="1")}
    told_by(fleet)
    assert used() == "b"


def test_mixed_weights_are_used_where_they_are_wanted() -> None:
    fleet = fleet_of("1", "2", rule="mixed")
    told_by(fleet)
    mask = open_mask(fleet.aliases["llama"], fleet.roster, 0.0)
    assert mask.bit_count() == 2
