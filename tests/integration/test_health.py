"""Health that cannot be fooled: a generation proves it, and nothing else does."""

import asyncio
from typing import Any

import msgspec
import pytest
from tests.integration.arena import (
    ALIAS,
    CALM,
    MODEL,
    QUICK,
    Running,
    eventually,
    serving,
    settings,
    sim,
)
from tests.integration.asking import ask

from arriero.config.settings import Config, Model, Route, Routing
from arriero.core.health import Cause, State
from arriero.core.residency import Residency
from arriero.testing.ollama import Fault, Kind, OllamaSim, SimModel
from arriero.testing.openai_server import OpenAiSim

OTHER = "other:1b"
BOTH = {ALIAS: MODEL, "other": OTHER}
PROBING = msgspec.structs.replace(
    CALM,
    probe_interval_s=0.05,
    probe_timeout_s=0.1,
    ejection_s=0.1,
    ejection_max_s=0.1,
    inventory_interval_s=0.02,
)
SILENT_SOON = msgspec.structs.replace(QUICK, first_token_s=0.1, response_s=0.1)


def probing(**changes: Any) -> Routing:
    return msgspec.structs.replace(PROBING, **changes)


def chats(host: OllamaSim, model: str = MODEL) -> int:
    return sum(seen.path == "/api/chat" and seen.json()["model"] == model for seen in host.requests)


def probes(running: Running, name: str, result: str) -> int:
    return running.gateway.metrics.probes.counts.get((name, result), 0)


def with_slots(config: Config, slots: int) -> Config:
    backends = tuple(msgspec.structs.replace(each, slots=slots) for each in config.backends)
    return msgspec.structs.replace(config, backends=backends)


# -- probes


async def test_a_wedged_host_is_found_before_a_user_finds_it() -> None:
    async with sim() as a, sim() as b, serving(settings(a, b, routing=PROBING)) as running:
        a.faults.add(Fault(kind=Kind.WEDGED))
        await eventually(lambda: running.host("a").breaker.state is State.EJECTED, "ejection")
        assert running.host("a").breaker.cause is Cause.SILENT
        assert running.gateway.metrics.ejections.counts == {("a",): 1}
        assert not running.gateway.metrics.backend_failures.counts, "no user met it"
        assert a.stats.endpoints["GET /api/tags"] > 0, "its pages are green"
        assert (await ask(running.port)).good


async def test_it_comes_back_by_a_generation_that_is_no_users() -> None:
    async with sim() as host, serving(settings(host, routing=PROBING)) as running:
        wedged = host.faults.add(Fault(kind=Kind.WEDGED))
        await eventually(lambda: running.host("a").breaker.state is State.EJECTED, "ejection")
        failed = probes(running, "a", "failed")
        await eventually(lambda: probes(running, "a", "failed") > failed + 1, "more tries")
        assert running.host("a").breaker.state is not State.AVAILABLE, "green pages do not help"
        host.faults.remove(wedged)
        await eventually(lambda: running.host("a").breaker.state is State.AVAILABLE, "its return")
        assert not running.gateway.metrics.requests, "no user was needed"
        assert (await ask(running.port)).good


async def test_nothing_is_probed_that_is_not_loaded() -> None:
    async with sim(cold=True) as host, serving(settings(host, routing=PROBING)) as running:
        looks = host.stats.endpoints["GET /api/tags"]
        await eventually(lambda: host.stats.endpoints["GET /api/tags"] > looks + 10, "time")
        assert {seen.method for seen in host.requests} == {"GET"}
        assert host.stats.of(MODEL).loads == 0
        assert running.station("a").residency is Residency.INSTALLED


async def test_an_expired_model_is_not_loaded_by_its_probe() -> None:
    routing = probing(inventory_interval_s=600.0)  # so only the probe's own look can tell
    async with sim() as host, serving(settings(host, routing=routing)) as running:
        await host.restart()
        await eventually(lambda: not running.station("a").resident, "the probe's look")
        assert host.stats.of(MODEL).loads == 0


async def test_an_idle_model_is_left_to_expire() -> None:
    async with sim() as host, serving(settings(host, routing=PROBING)) as running:
        await eventually(lambda: probes(running, "a", "ok") == 3, "the last probe")
        looks = host.stats.endpoints["GET /api/tags"]
        await eventually(lambda: host.stats.endpoints["GET /api/tags"] > looks + 10, "time")
        assert probes(running, "a", "ok") == 3
        assert (await ask(running.port)).good
        await eventually(lambda: probes(running, "a", "ok") == 6, "probes after its use")


async def test_users_answers_make_probes_needless() -> None:
    async with sim() as host, serving(settings(host, routing=probing(probe_interval_s=30))) as on:
        await eventually(lambda: probes(on, "a", "ok"), "the first, as nothing is known yet")
        for _ in range(5):
            assert (await ask(on.port)).good
        assert probes(on, "a", "ok") == 1


async def test_a_probe_asks_as_the_alias_does_and_reloads_nothing() -> None:
    async with sim(cold=True) as host:
        config = settings(host, routing=PROBING, timeouts=msgspec.structs.replace(QUICK, load_s=9))
        model = msgspec.structs.replace(config.models[0], context=2048)
        async with serving(msgspec.structs.replace(config, models=(model,))) as running:
            assert (await ask(running.port)).good
            await eventually(lambda: probes(running, "a", "ok"), "a probe")
        assert host.stats.of(MODEL).loads == 1
        last = [seen.json() for seen in host.requests if seen.path == "/api/chat"][-1]
        assert last["options"] == {"num_ctx": 2048, "num_predict": 1}


async def test_a_probe_takes_a_slot_and_gives_it_back() -> None:
    async with sim(num_parallel=1) as host:
        config = settings(host, routing=probing(probe_timeout_s=5.0))
        async with serving(with_slots(config, 1)) as running:
            host.faults.add(Fault(kind=Kind.SLOW, delay_s=0.2, count=1))
            await eventually(lambda: host.stats.faults["slow"], "the probe")
            assert (await ask(running.port)).good, "it waited here, and not at the host"
            assert host.stats.of(MODEL).waiting.most == 0


async def test_an_embedding_model_is_probed_with_an_embedding() -> None:
    embedder = sim(capabilities=("embedding",))
    async with embedder as host, serving(settings(host, routing=PROBING)) as running:
        await eventually(lambda: probes(running, "a", "ok"), "a probe")
        assert host.stats.endpoints["POST /api/embed"] >= 1
        assert host.stats.endpoints["POST /api/chat"] == 0


async def test_servers_of_openais_api_are_probed_too() -> None:
    async with OpenAiSim(SimModel(MODEL), slots=4) as host:
        config = settings(host.url, kinds=["openai"], routing=PROBING)
        async with serving(config) as running:
            await eventually(lambda: probes(running, "a", "ok"), "a probe")
            assert host.requests[-1].json()["max_tokens"] == 1
            assert (await ask(running.port)).good  # or it would be left alone by now
            wedged = host.faults.add(Fault(kind=Kind.WEDGED))
            await eventually(lambda: running.host("a").breaker.state is State.EJECTED, "ejection")
            host.faults.remove(wedged)
            await eventually(lambda: running.host("a").breaker.state is State.AVAILABLE, "return")


async def test_zero_turns_it_off() -> None:
    async with sim() as host, serving(settings(host, routing=probing(probe_interval_s=0))) as on:
        looks = host.stats.endpoints["GET /api/tags"]
        await eventually(lambda: host.stats.endpoints["GET /api/tags"] > looks + 10, "time")
        assert not on.gateway.metrics.probes.counts
        assert {seen.method for seen in host.requests} == {"GET"}


# -- one model, or the host


async def test_a_silent_model_makes_the_others_be_asked_at_once() -> None:
    routing = probing(probe_interval_s=600.0, ejection_s=60.0, ejection_max_s=60.0)
    async with sim(MODEL, OTHER) as a, sim(MODEL, OTHER) as b:
        config = settings(a, b, aliases=BOTH, timeouts=SILENT_SOON, routing=routing)
        async with serving(config) as running:
            await eventually(lambda: probes(running, "a", "ok") >= 2, "the first probes")
            a.faults.add(Fault(kind=Kind.WEDGED, model=MODEL))
            before = chats(a, OTHER)
            for _ in range(2):
                assert (await ask(running.port)).good
            await eventually(lambda: chats(a, OTHER) > before, "the other one is asked")
            assert running.own_breaker("a").state is State.EJECTED
            assert running.own_breaker("a").cause is Cause.SILENT
            assert running.host("a").breaker.state is State.AVAILABLE, "it spoke for the host"
            assert running.gateway.metrics.model_ejections.counts == {("a", MODEL): 1}


async def test_a_host_whose_models_are_all_silent_is_left_out() -> None:
    routing = probing(probe_interval_s=600.0, ejection_s=60.0, ejection_max_s=60.0)
    async with sim(MODEL, OTHER) as a, sim(MODEL, OTHER) as b:
        config = settings(a, b, aliases=BOTH, timeouts=SILENT_SOON, routing=routing)
        async with serving(config) as running:
            await eventually(lambda: probes(running, "a", "ok") >= 2, "the first probes")
            a.faults.add(Fault(kind=Kind.WEDGED))
            for _ in range(2):
                assert (await ask(running.port)).good
            breaker = running.host("a").breaker
            await eventually(lambda: breaker.state is State.EJECTED, "ejection by the probe")
            asked = chats(a, OTHER)
            for _ in range(4):
                assert (await ask(running.port, model="other")).good
            assert chats(a, OTHER) == asked, "no user waits for its other model"


async def test_a_request_that_is_wrong_proves_nothing() -> None:
    routing = msgspec.structs.replace(CALM, ejection_s=0.05, ejection_max_s=0.05)
    async with sim() as host, serving(settings(host, timeouts=QUICK, routing=routing)) as running:
        host.faults.add(Fault(kind=Kind.WEDGED, count=1))
        assert (await ask(running.port)).status == 504
        breaker = running.host("a").breaker
        await eventually(lambda: breaker.may_try(running.gateway.clock.now_s()), "its time")
        await eventually(lambda: running.station("a").group.usable, "the model's, too")
        host.faults.add(Fault(kind=Kind.STATUS, status=400, text="invalid format: x", count=1))
        assert (await ask(running.port)).status == 400
        assert breaker.state.name == "EJECTED", "a web server answered, no model did"
        assert (await ask(running.port)).good, "the next one may try at once"
        assert breaker.state is State.AVAILABLE


# -- the way back


async def test_a_host_that_comes_back_begins_with_one_request() -> None:
    routing = msgspec.structs.replace(
        CALM, ejection_s=0.05, ejection_max_s=0.05, slow_start_s=60.0, inventory_interval_s=0.02
    )
    async with sim(cold=True) as host:
        config = settings(host, timeouts=msgspec.structs.replace(QUICK, load_s=9), routing=routing)
        async with serving(with_slots(config, 8)) as running:
            assert (await ask(running.port)).good
            host.kill()
            assert (await ask(running.port)).status == 503
            await host.accept()
            breaker = running.host("a").breaker
            await eventually(lambda: breaker.may_try(running.gateway.clock.now_s()), "its time")
            assert (await ask(running.port)).good, "the half-open request"
            assert breaker.state is State.AVAILABLE
            held = host.faults.add(Fault(kind=Kind.SLOW, delay_s=0.02))
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(running.port)) for _ in range(6)]
                await eventually(lambda: running.gateway.queue.waiting == 5, "the others wait")
                assert running.host("a").in_flight == 1
                host.faults.remove(held)
            assert all(task.result().good for task in tasks)
            ramp = running.host("a").ramp
            assert ramp is not None
            assert ramp.allowed() == 7, "one more with each answer"


# -- kept in memory


def kept(config: Config, **changes: Any) -> Config:
    models = tuple(msgspec.structs.replace(each, **changes) for each in config.models)
    return msgspec.structs.replace(config, models=models)


@pytest.mark.parametrize(("count", "loaded"), [(1, 1), (2, 2), (99, 3)])
async def test_models_are_loaded_at_the_start(count: int, loaded: int) -> None:
    hosts = [sim(cold=True) for _ in range(3)]
    async with hosts[0], hosts[1], hosts[2]:  # noqa: SIM117 - their addresses are known within
        async with serving(kept(settings(*hosts), keep_loaded=count)) as running:
            stations = [running.station(name) for name in "abc"]
            await eventually(lambda: sum(each.resident for each in stations) == loaded, "loads")
            assert [host.stats.of(MODEL).loads for host in hosts].count(1) == loaded
            sent = next(s.json() for host in hosts for s in host.requests if s.method == "POST")
            assert sent["keep_alive"] == -1


async def test_they_are_loaded_where_the_configuration_says() -> None:
    async with sim(cold=True) as a, sim(cold=True) as b:
        config = settings(a, b)
        routes = (
            Route(backend="a", model=MODEL),
            Route(backend="b", model=MODEL, keep_loaded=True),
        )
        models = (Model(name=ALIAS, routes=routes),)
        async with serving(msgspec.structs.replace(config, models=models)) as running:
            await eventually(lambda: running.station("b").resident, "the load")
            assert (a.stats.of(MODEL).loads, b.stats.of(MODEL).loads) == (0, 1)


@pytest.mark.parametrize("seen", [True, False])
async def test_they_are_loaded_again_after_a_restart(*, seen: bool) -> None:
    routing = msgspec.structs.replace(CALM, inventory_interval_s=0.02, ejection_s=0.02)
    async with sim(cold=True) as host:
        config = kept(settings(host, routing=routing), keep_loaded=1)
        async with serving(config) as running:
            await eventually(lambda: running.station("a").resident, "the first load")
            await eventually(lambda: running.host("a").resident, "the look that sees it")
            if seen:
                host.kill()
                await eventually(lambda: not running.host("a").version, "the refused look")
                await host.accept()
            else:
                await host.restart()  # between two looks
            await eventually(lambda: host.stats.of(MODEL).loads == 2, "the second load")
            await eventually(lambda: running.station("a").resident, "the model is back")
            assert (await ask(running.port)).good


async def test_a_load_that_fails_is_tried_again_with_patience() -> None:
    routing = msgspec.structs.replace(CALM, ejection_s=0.05, ejection_max_s=0.05)
    async with sim(cold=True) as host:
        host.faults.add(Fault(kind=Kind.LOAD_FAILED, count=2))
        config = kept(settings(host, routing=routing), keep_loaded=1)
        async with serving(config) as running:
            await eventually(lambda: running.station("a").resident, "the third load")
            loads = running.gateway.metrics.model_loads.counts
            assert loads == {("a", MODEL, "failed"): 2, ("a", MODEL, "ok"): 1}
            assert running.own_breaker("a").state is State.AVAILABLE
            assert running.host("a").breaker.state is State.AVAILABLE
