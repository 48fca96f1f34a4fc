"""Single embeddings that wait anyway are answered by one call, each with its own vector."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace
from tests.integration.arena import ALIAS, MODEL, Running, eventually, serving, settings, sim
from tests.integration.asking import Answer, ask, asking, body_of

from arriero.config.settings import Backend, Config, Model, Queueing, Route, Timeouts
from arriero.testing.ollama import Fault, Kind, OllamaSim, SimModel

EMBED = "/v1/embeddings"
PATIENT = Timeouts(load_s=60, first_token_s=60, inter_token_s=60, response_s=60)


def embedder(**more: Any) -> OllamaSim:
    return sim(capabilities=("embedding",), num_parallel=1, **more)


def one_slot(host: OllamaSim, *more: OllamaSim, **queue: Any) -> Config:
    return settings(host, *more, timeouts=PATIENT, slots=1, queue=Queueing(**queue))


async def embed(port: int, text: str, **more: Any) -> Answer:
    return await ask(port, EMBED, body={"model": ALIAS, "input": text, **more})


def calls(host: OllamaSim) -> list[list[str]]:
    """The inputs of each call at the host."""
    return [seen.json()["input"] for seen in host.requests if seen.path == "/api/embed"]


def vector(answer: Answer) -> list[float]:
    assert answer.status == 200, answer
    (found,) = answer.json["data"]
    assert found["index"] == 0
    return [float(each) for each in found["embedding"]]


async def truth(texts: list[str]) -> dict[str, list[float]]:
    """The vectors of texts that were asked for alone."""
    async with embedder() as host, serving(one_slot(host)) as running:
        return {text: vector(await embed(running.port, text)) for text in texts}


async def waiting(running: Running, count: int) -> None:
    await eventually(lambda: running.gateway.queue.waiting == count, f"{count} waiting")


async def hold(running: Running, host: OllamaSim, group: asyncio.TaskGroup) -> asyncio.Task[Answer]:
    """Keep the only slot busy with a call that hangs until its client leaves."""
    host.faults.add(Fault(kind=Kind.HANG, endpoint="/api/embed", count=1))

    async def leave_in_the_end() -> Answer:
        async with asking(running.port, {"model": ALIAS, "input": "hold"}, EMBED) as asked:
            return await asked.answer()

    task = group.create_task(leave_in_the_end())
    await eventually(lambda: host.stats.faults[Kind.HANG], "a busy slot")
    return task


async def gathered(
    running: Running, host: OllamaSim, texts: list[str], **more: Any
) -> list[Answer]:
    """Ask for all of them while the slot is busy, and let it go then."""
    async with asyncio.TaskGroup() as group:
        held = await hold(running, host, group)
        asked = []
        for text in texts:
            asked.append(group.create_task(embed(running.port, text, **more)))
            await waiting(running, len(asked))
        held.cancel()
    return [each.result() for each in asked]


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_every_client_gets_its_own_vector(encoding: str) -> None:
    texts = [f"piece {number} " + "x " * number for number in range(20)]
    async with embedder() as host, serving(one_slot(host)) as running:
        answers = await gathered(running, host, texts, encoding_format=encoding)
        assert calls(host)[1:] == [texts]
        if encoding == "float":
            expected = await truth(texts)
            assert [vector(each) for each in answers] == [expected[text] for text in texts]
        else:
            assert all(isinstance(each.json["data"][0]["embedding"], str) for each in answers)
        told = [each.json["usage"]["prompt_tokens"] for each in answers]
        assert all(told)
        assert told[-1] > told[0], "longer texts have more of the tokens"
        assert running.gateway.metrics.batched_requests == 19
        assert all("x-arriero-queue-ms" in each.headers for each in answers)


async def test_the_tokens_of_a_batch_are_shared_out_to_the_last() -> None:
    texts = [f"piece {number}" for number in range(7)]
    async with embedder() as host, serving(one_slot(host)) as running:
        answers = await gathered(running, host, texts)
        alone = await ask(running.port, EMBED, body={"model": ALIAS, "input": texts})
        told = sum(each.json["usage"]["prompt_tokens"] for each in answers)
        assert told == alone.json["usage"]["prompt_tokens"]


async def test_nobody_waits_for_company() -> None:
    async with embedder() as host, serving(one_slot(host)) as running:
        for number in range(3):
            assert (await embed(running.port, f"{number}")).status == 200
        assert calls(host) == [["0"], ["1"], ["2"]]


async def test_a_batch_is_bounded_and_can_be_turned_off() -> None:
    texts = [str(number) for number in range(10)]
    async with embedder() as host, serving(one_slot(host, embedding_batch_max=4)) as running:
        await gathered(running, host, texts)
        assert [len(call) for call in calls(host)[1:]] == [4, 4, 2]
    async with embedder() as host, serving(one_slot(host, embedding_batch_max=1)) as running:
        await gathered(running, host, texts)
        assert [len(call) for call in calls(host)[1:]] == [1] * 10


async def test_only_what_is_alike_goes_together() -> None:
    async with embedder() as host, serving(one_slot(host)) as running:
        async with asyncio.TaskGroup() as group:
            held = await hold(running, host, group)
            bodies: list[dict[str, object]] = [
                {"input": "a"}, {"input": "b", "dimensions": 8}, {"input": ["c", "d"]},
                {"input": "e"}, {"input": "f", "dimensions": 8}, {"input": "g", "dimensions": 4},
            ]  # fmt: skip
            asked = []
            for number, body in enumerate(bodies):
                whole = {"model": ALIAS, **body}
                asked.append(group.create_task(ask(running.port, EMBED, body=whole)))
                await waiting(running, number + 1)
            held.cancel()
        assert [call for call in calls(host)[1:] if len(call) == 2 and call != ["c", "d"]] == [
            ["a", "e"], ["b", "f"],
        ]  # fmt: skip
        lengths = [len(each.result().json["data"][0]["embedding"]) for each in asked]
        assert lengths == [384, 8, 384, 384, 8, 4]
        assert len(asked[2].result().json["data"]) == 2


async def test_one_who_is_refused_spoils_it_for_nobody() -> None:
    # Longer than the model's context, if not by the guess of the gateway: 400 for the whole call.
    long = "a " * 8_300
    texts = ["a", long, "b"]
    async with embedder() as host, serving(one_slot(host)) as running:
        answers = await gathered(running, host, texts)
        assert [each.status for each in answers] == [200, 400, 200]
        assert calls(host)[1] == texts
        assert sorted(calls(host)[2:], key=len) == [["a"], [long], ["b"]]
        expected = await truth(["a", "b"])
        assert vector(answers[0]) == expected["a"]
        assert vector(answers[2]) == expected["b"]


@pytest.mark.parametrize("leaver", [0, 1, 2])
async def test_a_client_that_leaves_only_leaves_the_batch(leaver: int) -> None:
    async with embedder() as host, serving(one_slot(host)) as running:
        async with asyncio.TaskGroup() as group:
            held = await hold(running, host, group)
            asked = []
            for number in range(3):
                asked.append(group.create_task(embed(running.port, f"text {number}")))
                await waiting(running, number + 1)
            host.faults.add(Fault(kind=Kind.SLOW, endpoint="/api/embed", delay_s=0.1, count=1))
            held.cancel()
            await eventually(lambda: len(calls(host)) == 2, "the batch at the host")
            asked[leaver].cancel()
        stayed = [each for number, each in enumerate(asked) if number != leaver]
        assert all(each.result().status == 200 for each in stayed)
        assert len(calls(host)) == 2
        await running.at_rest()


async def test_when_all_have_left_the_call_is_cancelled() -> None:
    async with embedder() as host, serving(one_slot(host)) as running:
        async with asyncio.TaskGroup() as group:
            held = await hold(running, host, group)
            asked = [group.create_task(embed(running.port, f"text {n}")) for n in range(3)]
            await waiting(running, 3)
            host.faults.add(Fault(kind=Kind.HANG, endpoint="/api/embed", count=1))
            held.cancel()
            await eventually(lambda: len(calls(host)) == 2, "the batch at the host")
            for each in asked:
                each.cancel()
        await eventually(lambda: host.stats.cancelled == 2, "the host was told")
        await running.at_rest()


async def test_a_batch_that_a_host_failed_goes_to_another() -> None:
    texts = [f"text {number}" for number in range(5)]
    async with embedder() as a, embedder() as b, serving(one_slot(a, b)) as running:
        running.host("b").installed = {}
        b_installed = running.host("a").installed
        async with asyncio.TaskGroup() as group:
            held = await hold(running, a, group)
            asked = [group.create_task(embed(running.port, text)) for text in texts]
            await waiting(running, 5)
            a.faults.add(Fault(kind=Kind.HANG, endpoint="/api/embed", count=1))
            held.cancel()
            await eventually(lambda: len(calls(a)) == 2, "the batch at a")
            running.host("b").installed = b_installed
            a.kill()
        assert all(each.result().status == 200 for each in asked)
        expected = await truth(texts)
        for text, each in zip(texts, asked, strict=True):
            assert vector(each.result()) == expected[text]
        assert sum(len(call) for call in calls(b)) == 5


async def test_the_upload_of_a_document_does_not_delay_a_chat() -> None:
    """Hundreds of embeddings at once, as Open WebUI sends them, and a chat in the midst of it."""
    vectors = SimModel("nomic:v1", capabilities=("embedding",), prefill_tps=2000)
    host = OllamaSim([SimModel(MODEL), vectors], num_parallel=1)
    async with host:
        backend = Backend(name="a", url=host.url)
        config = replace(
            settings(timeouts=PATIENT),
            backends=(backend,),
            models=tuple(
                Model(name=name, routes=(Route(backend="a", model=model, timeouts=PATIENT),))
                for name, model in ((ALIAS, MODEL), ("embed", "nomic:v1"))
            ),
        )
        async with serving(config) as running:
            done: list[int] = []

            async def piece(number: int) -> None:
                body = {"model": "embed", "input": f"piece {number} of the document"}
                answer = await ask(running.port, EMBED, body=body)
                assert answer.status == 200
                done.append(number)

            async with asyncio.TaskGroup() as group:
                for number in range(300):
                    group.create_task(piece(number))
                await eventually(lambda: len(done) >= 1, "the first piece")
                assert (await ask(running.port, stream=True)).good
                assert len(done) < 300, "the chat was answered while the upload was under way"
            assert len(done) == 300
            assert host.stats.of("nomic:v1").waiting.most == 0
            assert host.stats.of("nomic:v1").running.most == 1
            assert len(calls(host)) < 60, "what waited went together"


async def test_chats_go_before_embeddings_where_they_share_a_model() -> None:
    both = SimModel(MODEL, capabilities=("completion", "embedding"))
    async with OllamaSim([both], num_parallel=1) as host:
        config = one_slot(host, embedding_batch_max=2)
        async with serving(config) as running:
            async with asyncio.TaskGroup() as group:
                held = await hold(running, host, group)
                for number in range(6):
                    group.create_task(embed(running.port, str(number)))
                await waiting(running, 6)
                group.create_task(ask(running.port, body=body_of(stream=True)))
                await waiting(running, 7)
                held.cancel()
            order = [seen.path for seen in host.requests if seen.method == "POST"]
            asked = [path for path in order if path in {"/api/chat", "/api/embed"}]
            assert asked == ["/api/embed", "/api/chat", *["/api/embed"] * 3]
