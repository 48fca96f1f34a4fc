"""Loads belong to the gateway: one for whoever asks, and nobody's leaving ends it."""

import asyncio

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
from tests.integration.asking import ask, asking, body_of

from arriero.core.health import Cause, State
from arriero.core.residency import Residency
from arriero.core.speed import LOAD_S
from arriero.testing.ollama import Fault, Kind, OllamaSim

PATIENT = msgspec.structs.replace(QUICK, load_s=60)
LOOKING = msgspec.structs.replace(CALM, inventory_interval_s=0.02)


def loads(host: OllamaSim, model: str = MODEL) -> int:
    return host.stats.of(model).loads


def chats(host: OllamaSim) -> int:
    return host.stats.endpoints["POST /api/chat"]


async def loading(running: Running, name: str = "a") -> None:
    station = running.station(name)
    await eventually(lambda: station.residency is Residency.LOADING, "the load")


async def test_a_client_that_leaves_does_not_end_the_load() -> None:
    async with sim(load_s=0.3) as host, serving(settings(host, timeouts=PATIENT)) as running:
        async with asking(running.port, body_of()):
            await loading(running)
        await eventually(lambda: not running.host("a").in_flight, "the slot given back")
        assert running.station("a").residency is Residency.LOADING
        assert (await ask(running.port)).good, "the next one finds it under way, or done"
        assert (loads(host), host.stats.of(MODEL).loads_aborted) == (1, 0)
        assert chats(host) == 1, "nothing was generated for who left"
        assert running.station("a").residency is Residency.LOADED


async def test_the_load_ends_also_when_nobody_waits_any_more() -> None:
    async with sim(load_s=0.2) as host, serving(settings(host, timeouts=PATIENT)) as running:
        async with asking(running.port, body_of()):
            await loading(running)
        await eventually(lambda: running.station("a").resident, "the model in memory")
        assert loads(host) == 1
        assert (await ask(running.port)).good
        assert loads(host) == 1, "the next request is served warm"


async def test_twenty_requests_for_a_cold_model_are_one_load() -> None:
    async with sim(load_s=0.2) as host, serving(settings(host, timeouts=PATIENT)) as running:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(running.port)) for _ in range(20)]
        assert all(task.result().good for task in tasks)
        assert loads(host) == 1
        assert host.stats.endpoints["POST /api/generate"] == 1
        assert running.gateway.metrics.model_loads.counts == {("a", MODEL, "ok"): 1}
        usual_s = running.station("a").group.paces.load_s
        assert usual_s < LOAD_S, "routing learns how long a load takes"


async def test_a_cold_model_is_loaded_on_one_host_and_not_on_all() -> None:
    hosts = sim(load_s=0.2), sim(load_s=0.2)
    async with hosts[0] as a, hosts[1] as b:
        config = settings(a, b, timeouts=PATIENT)
        async with serving(config) as running, asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(running.port)) for _ in range(10)]
        assert all(task.result().good for task in tasks)
        assert loads(a) + loads(b) <= 2, "the second begins when the first is over, if at all"
        assert loads(a) == 1


async def test_a_loading_model_delays_no_other() -> None:
    models = {"cold": "cold:1b", "warm": MODEL}
    host = sim("cold:1b", MODEL, load_s=1.0).hold(MODEL)
    async with (
        host,
        serving(settings(host, aliases=models, timeouts=PATIENT)) as running,
        asking(running.port, body_of(model="cold")),
    ):
        station = running.station("a", "cold:1b")
        await eventually(lambda: station.residency is Residency.LOADING, "the load")
        for _ in range(3):
            assert (await ask(running.port, model="warm")).good
        assert station.residency is Residency.LOADING


async def test_a_request_goes_where_the_model_is_in_memory() -> None:
    async with sim(load_s=60) as cold, sim() as warm:
        config = settings(cold, warm, timeouts=PATIENT)
        async with serving(config) as running:
            for _ in range(4):
                assert (await ask(running.port)).good
            assert (loads(cold), chats(warm)) == (0, 4)


async def test_a_slow_load_is_no_reason_to_ask_another() -> None:
    quick = msgspec.structs.replace(PATIENT, first_token_s=0.05, response_s=0.05)
    hosts = sim(load_s=0.3), sim(load_s=0.3)
    async with hosts[0] as a, hosts[1] as b, serving(settings(a, b, timeouts=quick)) as running:
        assert (await ask(running.port)).good
        assert (loads(a), loads(b)) == (1, 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failed_load_leaves_out_the_model_and_not_the_host(*, stream: bool) -> None:
    aliases = {"llama": MODEL, "other": "other:1b"}
    hosts = sim(MODEL, "other:1b", cold=True), sim(MODEL, "other:1b", cold=True)
    async with hosts[0] as bad, hosts[1] as good:
        bad.faults.add(Fault(kind=Kind.LOAD_FAILED, model=MODEL))
        config = settings(bad, good, aliases=aliases, timeouts=PATIENT)
        async with serving(config) as running:
            assert (await ask(running.port, stream=stream)).good
            assert (chats(bad), chats(good)) == (0, 1)
            assert running.host("a").breaker.state is State.AVAILABLE
            assert running.own_breaker("a").state is State.EJECTED
            assert running.own_breaker("a").cause is Cause.LOAD
            assert running.gateway.metrics.model_ejections.counts == {("a", MODEL): 1}
            bad_before = chats(bad)
            for _ in range(4):
                assert (await ask(running.port, model="other")).good
            assert chats(bad) > bad_before, "its other model is well"


async def test_a_load_that_fails_everywhere_is_told() -> None:
    async with sim(cold=True) as host, serving(settings(host, timeouts=PATIENT)) as running:
        host.faults.add(Fault(kind=Kind.LOAD_FAILED))
        answer = await ask(running.port)
        assert answer.status == 502
        assert answer.error
        assert "could not be loaded" in answer.error["message"]


async def test_a_host_that_dies_in_the_load_is_left_for_another() -> None:
    hosts = sim(load_s=60), sim(load_s=0.1)
    async with hosts[0] as a, hosts[1] as b, serving(settings(a, b, timeouts=PATIENT)) as running:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(ask(running.port))
            await loading(running)
            a.kill()
        assert task.result().good
        assert chats(b) == 1
        assert running.host("a").breaker.state is State.EJECTED
        assert running.host("a").breaker.cause in (Cause.LOST, Cause.REFUSED), "or a look saw it"


async def test_a_load_has_its_own_time() -> None:
    quick = msgspec.structs.replace(QUICK, load_s=0.1)
    hosts = sim(load_s=60), sim()
    async with hosts[0] as a, hosts[1] as b, serving(settings(a, b, timeouts=quick)) as running:
        b.refuse()
        answer = await ask(running.port)
        assert answer.status == 504
        assert running.own_breaker("a").cause is Cause.SILENT


async def test_a_model_that_only_embeds_is_loaded_too() -> None:
    host = sim(cold=True, capabilities=("embedding",))
    async with host, serving(settings(host, timeouts=PATIENT)) as running:
        body = {"model": ALIAS, "input": "hello"}
        async with asking(running.port, body, "/v1/embeddings") as asked:
            assert (await asked.answer()).status == 200
        assert loads(host) == 1


async def test_a_load_is_that_of_the_alias() -> None:
    async with sim(cold=True) as host:
        config = settings(host, timeouts=PATIENT)
        model = msgspec.structs.replace(
            config.models[0], context=2048, keep_alive="7m", options={"num_batch": 128}
        )
        async with serving(msgspec.structs.replace(config, models=(model,))) as running:
            assert (await ask(running.port)).good
            assert loads(host) == 1, "the request itself reloads nothing"
        sent = next(seen.json() for seen in host.requests if seen.path == "/api/generate")
        assert sent == {
            "model": MODEL,
            "stream": False,
            "keep_alive": "7m",
            "options": {"num_ctx": 2048, "num_batch": 128},
        }


async def test_a_model_that_left_the_memory_meanwhile_is_not_taken_for_a_wedged_host() -> None:
    quick = msgspec.structs.replace(QUICK, first_token_s=0.2)
    host = sim(load_s=60).hold(MODEL)
    async with host, serving(settings(host, timeouts=quick)) as running:
        await host.restart()  # nobody has looked since
        async with asyncio.TaskGroup() as group:
            task = group.create_task(ask(running.port, stream=True))
            await eventually(lambda: running.host("a").in_flight, "the request")
            running.host("a").resident = {}  # the look that finds it gone
        assert task.result().status == 502
        assert running.own_breaker("a").cause is Cause.LOAD
        assert running.host("a").breaker.state is State.AVAILABLE


async def test_a_gateway_that_stops_ends_its_loads() -> None:
    async with sim(load_s=60) as host, serving(settings(host, timeouts=PATIENT)) as running:
        async with asking(running.port, body_of()):
            await loading(running)
        asked = host.stats.endpoints
        await eventually(lambda: asked["POST /api/generate"], "the load at the host")
        running.service.stop()
        await running.ended()
        await eventually(lambda: host.stats.of(MODEL).loads_aborted == 1, "the host was told")
        assert running.station("a").residency is Residency.INSTALLED
        assert running.gateway.metrics.model_ejections.counts == {}, "nobody is to blame"
