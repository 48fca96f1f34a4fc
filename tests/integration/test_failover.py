"""A backend fails, and the client hears of it only when there is no other way (DESIGN's table)."""

import asyncio

import msgspec
import pytest
from tests.integration.arena import (
    ALIAS,
    CALM,
    MODEL,
    QUICK,
    eventually,
    limits_for,
    serving,
    settings,
    sim,
)
from tests.integration.asking import Answer, ask, body_of

from arriero.config.settings import Routing
from arriero.core.health import State
from arriero.testing.ollama import Fault, Kind, OllamaSim

CONCURRENCY = 32
REQUESTS = 500

# What strikes instead of an answer, whatever `after` says.
BEFORE = {
    Kind.REFUSE, Kind.HANG, Kind.RESET, Kind.GARBAGE, Kind.STATUS, Kind.WEDGED, Kind.LOAD_FAILED,
}  # fmt: skip
# What a slow host does is no failure.
HARMLESS = {Kind.SLOW}
MID = set(Kind) - BEFORE - HARMLESS


def asked(host: OllamaSim) -> int:
    """How many generations the host was asked for."""
    return sum(seen.method == "POST" for seen in host.requests)


# Nothing here is about waiting, and a busy machine may take its time over 500 requests.
PATIENT = msgspec.structs.replace(QUICK, first_token_s=10.0, inter_token_s=10.0, response_s=15.0)


async def many(port: int, *, stream: bool) -> list[Answer]:
    gate = asyncio.Semaphore(CONCURRENCY)

    async def one(number: int) -> Answer:
        async with gate:
            return await ask(port, stream=stream, text=f"Say {number} in 8 words")

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(number)) for number in range(REQUESTS)]
    return [task.result() for task in tasks]


@pytest.mark.parametrize("stream", [False, True])
async def test_one_dead_backend_of_two_fails_no_request(*, stream: bool) -> None:
    async with (
        sim() as dead,
        sim() as alive,
        serving(settings(dead, alive, timeouts=PATIENT)) as running,
    ):
        dead.kill()
        answers = await many(running.port, stream=stream)
        assert [answer for answer in answers if not answer.good] == []
        assert asked(dead) == 0
        assert asked(alive) == REQUESTS
        assert running.host("a").breaker.state is State.EJECTED
        await running.at_rest()
        assert {name: running.host(name).in_flight for name in "ab"} == {"a": 0, "b": 0}


async def test_one_backend_that_was_dead_from_the_start_fails_no_request() -> None:
    async with sim() as dead, sim() as alive:
        dead.kill()
        async with serving(settings(dead, alive, timeouts=PATIENT)) as running:
            answers = await many(running.port, stream=False)
            assert [answer for answer in answers if not answer.good] == []


async def test_a_backend_killed_while_requests_run_fails_no_whole_answer() -> None:
    async with sim(decode_tps=400) as dying, sim(decode_tps=400) as alive:
        config = settings(dying, alive, timeouts=PATIENT)
        async with serving(config) as running, asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(running.port)) for _ in range(CONCURRENCY)]
            await eventually(lambda: dying.stats.in_flight.now >= 4, "some of them there")
            dying.kill()
        answers = [task.result() for task in tasks]
    assert [answer for answer in answers if not answer.good] == []
    # On a busy machine the first may have their answers before the last are sent.
    assert CONCURRENCY + 4 <= asked(dying) + asked(alive) <= CONCURRENCY + asked(dying)


async def test_a_backend_killed_while_streams_run_ends_them_with_an_error_and_no_other() -> None:
    async with sim(decode_tps=200) as dying, sim(decode_tps=200) as alive:
        config = settings(dying, alive, timeouts=PATIENT)
        async with serving(config) as running, asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(running.port, stream=True)) for _ in range(10)]
            await eventually(lambda: dying.stats.of(MODEL).tokens >= 15, "streams under way")
            dying.kill()
        answers = [task.result() for task in tasks]
    cut = [answer for answer in answers if not answer.good]
    assert 0 < len(cut) <= 5, "one that had got nothing yet, on a busy machine, was asked again"
    assert all(answer.clean and answer.error and not answer.done for answer in cut)


@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", Kind)
async def test_every_fault_is_hidden_or_told(*, kind: Kind, stream: bool, after: int) -> None:
    async with (
        sim(decode_tps=500) as bad,
        sim(decode_tps=500) as good,
        serving(settings(bad, good, timeouts=limits_for(kind))) as running,
    ):
        bad.faults.add(Fault(kind=kind, after=after, endpoint="/api/chat"))
        answer = await ask(running.port, stream=stream)
        assert asked(bad) == 1, "never twice on one host"
        told = stream and after > 0 and kind in MID
        # Ollama's own non-streamed answer shows no trace of half a line; a repeat takes some
        # tokens before it breaks off, so a stream has begun by then whatever `after` says.
        told = told or (stream and kind is Kind.REPEAT)
        harmless = kind in HARMLESS or (kind is Kind.MALFORMED_MID and not stream)
        if not told:
            assert answer.good, answer
            assert asked(good) == (0 if harmless else 1)
            return
        assert answer.status == 200
        assert answer.clean
        assert answer.text, "it did begin"
        assert not answer.done
        assert asked(good) == 0, "nothing is told twice"
        assert answer.error
        assert answer.error["type"] == "server_error"
        assert answer.error["code"] in {"backend_failed", "backend_timeout"}
        assert answer.headers["x-request-id"] in answer.error["message"]
        assert bad.url.removeprefix("http://") not in answer.body.decode()


async def test_the_other_hosts_answer_is_the_same_answer() -> None:
    async with sim() as bad, sim() as good, serving(settings(bad, good)) as running:
        bad.faults.add(Fault(kind=Kind.RESET, endpoint="/api/chat", count=1))
        failed_over = await ask(running.port)
        undisturbed = await ask(running.port)
        assert failed_over.text == undisturbed.text


async def test_retries_are_bounded() -> None:
    async with sim() as a, sim() as b, sim() as c, sim() as d:
        hosts = [a, b, c, d]
        routing = Routing(retries=1, inventory_interval_s=600)
        async with serving(settings(*hosts, routing=routing)) as running:
            for host in hosts:
                host.faults.add(Fault(kind=Kind.STATUS, endpoint="/api/chat"))
            answer = await ask(running.port)
            assert [asked(host) for host in hosts] == [1, 1, 0, 0]
            assert answer.status == 502
            assert answer.error
            assert answer.error["code"] == "backend_failed"
            assert answer.headers["x-should-retry"] == "false"


async def test_no_retries_means_one_attempt_but_a_refused_connection_costs_none() -> None:
    async with sim() as a, sim() as b, sim() as c:
        routing = Routing(retries=0, inventory_interval_s=600)
        async with serving(settings(a, b, c, routing=routing)) as running:
            a.kill()
            b.faults.add(Fault(kind=Kind.RESET, endpoint="/api/chat"))
            answer = await ask(running.port)
            assert answer.status == 502
            assert (asked(b), asked(c)) == (1, 0)
            assert (await ask(running.port)).good


async def test_a_model_missing_on_one_host_is_served_by_the_other() -> None:
    async with sim() as lacking, sim() as having, serving(settings(lacking, having)) as running:
        lacking.remove(MODEL)  # behind the inventory's back
        assert (await ask(running.port)).good
        assert asked(lacking) == 1
        assert not running.host("a").has(MODEL), "the inventory was corrected"
        assert running.host("a").breaker.state is State.AVAILABLE
        assert running.host("a").breaker.failures == 0
        assert (await ask(running.port)).good
        assert asked(lacking) == 1, "nobody asks there again"


async def test_a_model_that_no_host_has_is_a_404() -> None:
    async with sim() as one, sim() as two, serving(settings(one, two)) as running:
        one.remove(MODEL)
        two.remove(MODEL)
        for _ in range(2):  # once found out, once known
            answer = await ask(running.port)
            assert answer.status == 404
            assert answer.error
            assert answer.error["code"] == "model_not_found"


async def test_a_host_that_is_down_may_have_what_the_others_lack() -> None:
    async with sim() as down, sim() as lacking, serving(settings(down, lacking)) as running:
        down.kill()
        lacking.remove(MODEL)
        answer = await ask(running.port)
        assert answer.status == 503, "404 would say that the model is nowhere"


async def test_a_busy_backend_is_passed_by_without_a_mark() -> None:
    async with sim() as busy, sim() as free, serving(settings(busy, free)) as running:
        busy.faults.add(Fault(kind=Kind.STATUS, status=503, endpoint="/api/chat"))
        for _ in range(5):
            assert (await ask(running.port)).good
        assert asked(busy) > 0
        assert running.host("a").breaker.state is State.AVAILABLE
        assert running.host("a").breaker.failures == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_all_backends_busy_is_a_503_that_says_when_to_come_back(*, stream: bool) -> None:
    async with sim() as one, sim() as two, serving(settings(one, two)) as running:
        for host in (one, two):
            host.faults.add(Fault(kind=Kind.STATUS, status=503, endpoint="/api/chat"))
        answer = await ask(running.port, stream=stream)
        assert answer.status == 503
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert answer.headers.get("x-should-retry") != "false"
        assert [asked(one), asked(two)] == [1, 1]


@pytest.mark.parametrize("stream", [False, True])
async def test_all_backends_down_is_a_503_that_says_when_to_come_back(*, stream: bool) -> None:
    async with sim() as one, sim() as two, serving(settings(one, two)) as running:
        one.kill()
        two.kill()
        for _ in range(2):  # once found out, once known
            answer = await ask(running.port, stream=stream)
            assert answer.status == 503, answer
            assert answer.error
            assert answer.error["code"] == "no_backend_available"
            assert 1 <= int(answer.headers["retry-after"]) <= 60


async def test_a_failure_counts_for_more_than_a_host_that_could_not_be_asked() -> None:
    async with sim() as failing, sim() as down, serving(settings(failing, down)) as running:
        failing.faults.add(Fault(kind=Kind.STATUS, endpoint="/api/chat"))
        down.kill()
        answer = await ask(running.port)
        assert answer.status == 502
        assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_clients_bad_request_is_told_and_not_repeated(*, stream: bool) -> None:
    async with sim() as one, sim() as two, serving(settings(one, two)) as running:
        text = '"llama3:8b" does not support vision'
        one.faults.add(Fault(kind=Kind.STATUS, status=400, text=text, endpoint="/api/chat"))
        answer = await ask(running.port, stream=stream)
        assert answer.status == 400
        assert answer.error
        assert answer.error["type"] == "invalid_request_error"
        assert answer.error["param"] == "messages"
        assert (asked(one), asked(two)) == (1, 0)
        assert running.host("a").breaker.failures == 0


async def test_a_whole_answer_that_is_none_marks_its_backend() -> None:
    routing = Routing(failures_max=2, inventory_interval_s=600, ejection_s=60)
    async with (
        sim() as bad,
        sim() as good,
        serving(settings(bad, good, routing=routing)) as running,
    ):
        bad.faults.add(Fault(kind=Kind.EOF_MID, after=2, endpoint="/api/chat"))
        for _ in range(4):
            assert (await ask(running.port)).good
        assert running.own_breaker("a").state is State.EJECTED


async def test_failover_works_for_embeddings_and_completions_too() -> None:
    able = ("completion", "embedding")
    async with (
        sim(capabilities=able) as bad,
        sim(capabilities=able) as good,
        serving(settings(bad, good)) as running,
    ):
        bad.faults.add(Fault(kind=Kind.STATUS))
        body = {"model": ALIAS, "input": "hello"}
        answer = await ask(running.port, "/v1/embeddings", body=body)
        assert answer.status == 200
        assert len(answer.json["data"]) == 1
        body = {"model": ALIAS, "prompt": "Once"}
        answer = await ask(running.port, "/v1/completions", body=body)
        assert answer.status == 200
        assert answer.json["choices"][0]["text"]


async def test_the_metrics_tell_of_failovers() -> None:
    async with sim() as dead, sim() as alive, serving(settings(dead, alive)) as running:
        dead.kill()
        assert (await ask(running.port)).good
        counts = running.gateway.metrics
        assert counts.backend_failures.counts == {("a", "refused"): 1}
        assert counts.ejections.counts == {("a",): 1}
        assert counts.aliases[ALIAS].failovers == 1
        assert counts.aliases[ALIAS].retries == 1


async def test_no_failure_reveals_an_address() -> None:
    async with sim() as host, serving(settings(host)) as running:
        text = f'Post "{host.url}/completion": dial tcp 127.0.0.1:{host.port}: connect: refused'
        host.faults.add(Fault(kind=Kind.STATUS, text=text, endpoint="/api/chat"))
        answer = await ask(running.port, body=body_of())
        assert answer.status == 502
        shown = answer.body.decode() + str(answer.headers)
        assert "127.0.0.1" not in shown
        assert str(host.port) not in shown


assert CALM.ejection_s > QUICK.total_s, "an ejection must outlive a test"
