"""When a backend is left out, and how it comes back."""

import asyncio

import msgspec
from tests.integration.arena import CALM, MODEL, QUICK, eventually, serving, settings, sim
from tests.integration.asking import ask, get

from arriero.config.settings import Config, Routing
from arriero.core.health import Cause, State
from arriero.testing.ollama import Fault, Kind, OllamaSim

LOOKING = msgspec.structs.replace(CALM, inventory_interval_s=0.02)
BRIEF = msgspec.structs.replace(CALM, ejection_s=0.05, ejection_max_s=0.05)


def hurried(*hosts: OllamaSim, routing: Routing = CALM) -> Config:
    """Give up on a silent host soon."""
    return settings(*hosts, routing=routing, timeouts=QUICK)


def asked(host: OllamaSim) -> int:
    return sum(seen.method == "POST" for seen in host.requests)


async def test_a_refused_connection_ejects_at_once() -> None:
    async with sim() as a, sim() as b, serving(settings(a, b)) as running:
        a.kill()
        assert (await ask(running.port)).good
        assert running.host("a").breaker.state is State.EJECTED
        assert running.host("a").breaker.cause is Cause.REFUSED


async def test_failed_answers_eject_after_failures_max_in_a_row() -> None:
    routing = msgspec.structs.replace(CALM, failures_max=3)
    async with sim() as a, sim() as b, serving(settings(a, b, routing=routing)) as running:
        a.faults.add(Fault(kind=Kind.STATUS, endpoint="/api/chat"))
        while asked(a) < 3:
            assert running.station("a").group.usable & running.host("a").bit
            assert (await ask(running.port)).good
        assert running.own_breaker("a").state is State.EJECTED
        assert running.host("a").breaker.state is State.AVAILABLE, "its other models may be well"
        for _ in range(4):
            assert (await ask(running.port)).good
        assert asked(a) == 3


async def test_a_good_answer_forgives_earlier_failures() -> None:
    async with sim() as a, serving(settings(a)) as running:
        for _ in range(4):
            a.faults.add(Fault(kind=Kind.STATUS, endpoint="/api/chat", count=2))
            assert [(await ask(running.port)).status for _ in range(3)] == [502, 502, 200]
        assert running.host("a").breaker.state is State.AVAILABLE


async def test_half_open_lets_exactly_one_through() -> None:
    async with (
        sim() as a,
        sim() as b,
        serving(settings(a, b, routing=BRIEF, timeouts=QUICK)) as running,
    ):
        a.faults.add(Fault(kind=Kind.WEDGED, count=1))
        assert (await ask(running.port)).good
        breaker = running.host("a").breaker
        await eventually(lambda: running.is_open("a"), "half-open")
        a.faults.add(Fault(kind=Kind.HANG, endpoint="/api/chat"))
        before = asked(a)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(running.port)) for _ in range(10)]
            await eventually(lambda: asked(a) == before + 1, "the probe")
            assert breaker.state is State.PROBING
            assert running.host("a").in_flight == 1
        assert all(task.result().good for task in tasks), "the probe's own request failed over"
        assert asked(a) == before + 1


async def test_a_probe_that_succeeds_ends_the_ejection() -> None:
    async with (
        sim() as a,
        sim() as b,
        serving(settings(a, b, routing=BRIEF, timeouts=QUICK)) as running,
    ):
        a.faults.add(Fault(kind=Kind.WEDGED, count=1))
        assert (await ask(running.port)).good
        assert running.host("a").breaker.state is State.EJECTED
        await eventually(lambda: running.is_open("a"), "half-open")
        for _ in range(2):
            assert (await ask(running.port)).good
        assert running.host("a").breaker.state is State.AVAILABLE


async def test_a_restarted_host_is_used_again_as_soon_as_it_is_seen() -> None:
    hosts = sim(), sim(decode_tps=400)
    async with hosts[0] as a, hosts[1] as b, serving(settings(a, b, routing=LOOKING)) as running:
        a.kill()
        assert (await ask(running.port)).good
        breaker = running.host("a").breaker
        assert running.host("a").breaker.state is State.EJECTED
        assert breaker.until_s - running.gateway.clock.now_s() > 30
        await a.accept()
        await eventually(lambda: breaker.may_try(running.gateway.clock.now_s()), "a look")
        async with asyncio.TaskGroup() as group:  # one alone would go where the model is loaded
            tasks = [group.create_task(ask(running.port)) for _ in range(4)]
        assert all(task.result().good for task in tasks)
        assert asked(a) > 0
        assert running.host("a").breaker.state is State.AVAILABLE


async def test_the_inventory_finds_a_dead_host_before_any_user_does() -> None:
    async with sim() as a, sim() as b, serving(settings(a, b, routing=LOOKING)) as running:
        a.kill()
        await eventually(lambda: running.host("a").breaker.state is State.EJECTED, "ejection")
        assert (await ask(running.port)).good
        assert not running.gateway.metrics.backend_failures.counts
        assert running.gateway.metrics.ejections.counts == {("a",): 1}


async def test_the_last_host_left_is_asked_although_it_was_ejected() -> None:
    async with sim() as a, serving(settings(a)) as running:
        a.kill()
        assert (await ask(running.port)).status == 503
        await a.accept()
        assert (await ask(running.port)).good, "nobody waits for the probe's turn"


async def test_a_wedged_host_with_green_health_stays_out() -> None:
    async with (
        sim() as a,
        sim() as b,
        serving(settings(a, b, routing=LOOKING, timeouts=QUICK)) as running,
    ):
        a.faults.add(Fault(kind=Kind.WEDGED))
        assert (await ask(running.port)).good
        breaker = running.host("a").breaker
        assert (breaker.state, breaker.cause) == (State.EJECTED, Cause.SILENT)
        looks = a.stats.endpoints["GET /api/tags"]
        await eventually(lambda: a.stats.endpoints["GET /api/tags"] > looks + 3, "green looks")
        for _ in range(4):
            assert (await ask(running.port)).good
        assert running.host("a").breaker.state is State.EJECTED
        assert asked(a) == 1


async def test_a_wedged_host_alone_costs_its_timeout_once() -> None:
    async with sim() as a, serving(hurried(a)) as running:
        a.faults.add(Fault(kind=Kind.WEDGED))
        assert (await ask(running.port)).status == 504
        answer = await ask(running.port)
        assert answer.status == 503
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert asked(a) == 1


async def test_readiness_follows_the_fleet() -> None:
    async with sim() as a, serving(settings(a, routing=LOOKING)) as running:
        assert (await get(running.port, "/health/readiness")).status == 200
        a.kill()
        await eventually(lambda: running.host("a").breaker.state is State.EJECTED, "ejection")
        assert (await get(running.port, "/health/readiness")).status == 503
        await a.accept()
        await eventually(
            lambda: running.host("a").breaker.may_try(running.gateway.clock.now_s()), "a look"
        )
        assert (await get(running.port, "/health/readiness")).status == 200


async def test_an_error_about_the_request_ejects_nobody() -> None:
    routing = Routing(failures_max=1, inventory_interval_s=600)
    async with sim() as a, serving(settings(a, routing=routing)) as running:
        a.faults.add(Fault(kind=Kind.STATUS, status=500, text="invalid format: expected object"))
        for _ in range(3):
            assert (await ask(running.port)).status == 400
        assert running.host("a").breaker.state is State.AVAILABLE
        assert running.host("a").has(MODEL)
