"""The simulation's scheduler, models and answers: what a real host needs too much time to show."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2 as httpx
import pytest

from arriero.testing.ollama import Fault, Kind, OllamaSim, SimModel, Turn

NAME = "llama3:8b"
ASK = {"model": NAME, "messages": [{"role": "user", "content": "Tell me in 12 words"}]}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "required": ["city", "days", "unit"],
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer", "minimum": 3},
                "unit": {"enum": ["C", "F"]},
                "ignored": {"type": "array"},
            },
        },
    },
}


class Client:
    """Asks one simulated host."""

    def __init__(self, sim: OllamaSim, http: httpx.AsyncClient) -> None:
        self.sim = sim
        self.http = http

    async def post(self, path: str, **body: object) -> httpx.Response:
        return await self.http.post(path, json=body)

    async def chat(self, **more: object) -> httpx.Response:
        return await self.post("/api/chat", **{**ASK, **more})

    async def whole(self, **more: object) -> dict[str, Any]:
        answer: dict[str, Any] = (await self.chat(stream=False, **more)).json()
        return answer

    async def loads(self, **options: object) -> None:
        await self.chat(messages=[], options=options)


@asynccontextmanager
async def host(*models: SimModel, **settings: Any) -> AsyncIterator[Client]:
    async with (
        asyncio.timeout(20),
        OllamaSim(models or [SimModel(NAME)], **settings) as sim,
        httpx.AsyncClient(base_url=sim.url, timeout=10) as http,
    ):
        yield Client(sim, http)


async def until(condition: Any) -> None:
    """Wait for something that has no event; the block's own timeout ends it."""
    while not condition():  # noqa: ASYNC110 - counters have no events
        await asyncio.sleep(0.001)


def said(response: httpx.Response) -> str:
    return "".join(json.loads(line)["message"]["content"] for line in response.text.splitlines())


# What it says


async def test_two_hosts_give_the_same_answer_to_the_same_question() -> None:
    async with host() as one, host() as two:
        assert said(await one.chat()) == said(await two.chat()) != ""


async def test_another_seed_another_question_another_model_another_answer() -> None:
    async with host(SimModel(NAME), SimModel("phi3")) as one:
        answers = [
            await one.chat(),
            await one.chat(options={"seed": 2}),
            await one.chat(messages=[{"role": "user", "content": "And in 12 words?"}]),
            await one.chat(model="phi3"),
        ]
    assert len({said(answer) for answer in answers}) == 4


async def test_replies_come_from_a_table_or_a_function() -> None:
    def count(turn: Turn) -> str:
        return f"{len(turn.messages)} {turn.options['seed']}"

    table = SimModel(NAME, replies={"words": "From the table."})
    async with host(table, SimModel("counts", replies=count)) as one:
        assert said(await one.chat()) == "From the table."
        assert said(await one.chat(model="counts", options={"seed": 5})) == "1 5"


async def test_the_rest_of_an_answer_is_what_was_missing() -> None:
    async with host() as one:
        whole = said(await one.chat())
        for cut in (1, 7, len(whole) - 1):
            begun = {"role": "assistant", "content": whole[:cut]}
            assert said(await one.chat(messages=[*ASK["messages"], begun])) == whole[cut:]


async def test_a_model_that_closes_the_turn_begins_again() -> None:
    async with host(SimModel(NAME, continues_prefill=False)) as one:
        whole = said(await one.chat())
        messages = [*ASK["messages"], {"role": "assistant", "content": whole[:9]}]
        assert said(await one.chat(messages=messages)) == whole
        probe = (await one.chat(messages=messages, _debug_render_only=True)).json()
        rendered = probe["_debug_info"]["rendered_template"]
    assert rendered.endswith(f"{whole[:9]}<|im_end|>\n<|im_start|>assistant\n")


async def test_a_template_may_take_the_white_space_at_the_end_away() -> None:
    async with host(SimModel(NAME, trims_prefill=True)) as one:
        whole = said(await one.chat())
        cut = whole.index(" ") + 1
        messages = [*ASK["messages"], {"role": "assistant", "content": whole[:cut]}]
        probe = (await one.chat(messages=messages, _debug_render_only=True)).json()
        assert probe["_debug_info"]["rendered_template"].endswith(whole[: cut - 1])
        rest = await one.chat(messages=messages)
    assert said(rest) == whole[cut - 1 :], "and so it comes again"


async def test_a_rendered_prompt_with_a_begun_answer_is_continued_raw() -> None:
    async with host() as one:
        whole = said(await one.chat())
        probe = (await one.chat(_debug_render_only=True)).json()
        prompt = probe["_debug_info"]["rendered_template"] + whole[:10]
        rest = await one.post("/api/generate", model=NAME, prompt=prompt, raw=True, stream=False)
    assert rest.json()["response"] == whole[10:]


async def test_a_tool_call_has_what_its_schema_requires() -> None:
    model = SimModel(NAME, capabilities=("completion", "tools"))
    asked = [{"role": "user", "content": "What does get weather say?"}]
    async with host(model) as one:
        message = (await one.whole(messages=asked, tools=[TOOL]))["message"]
        (call,) = message["tool_calls"]
        result = {"role": "tool", "tool_name": "get_weather", "content": "rain"}
        after = await one.whole(messages=[*asked, message, result], tools=[TOOL])
        other = await one.whole(tools=[TOOL])
    assert call["function"]["name"] == "get_weather"
    assert set(call["function"]["arguments"]) == {"city", "days", "unit"}
    assert call["function"]["arguments"]["days"] == 3
    assert call["function"]["arguments"]["unit"] == "C"
    assert message["content"] == ""
    assert after["message"]["content"] == "The tool says: rain"
    assert "tool_calls" not in other["message"]


@pytest.mark.parametrize("last", [False, True])
async def test_tool_calls_stream_in_a_line_of_their_own_or_the_last(*, last: bool) -> None:
    model = SimModel(NAME, capabilities=("completion", "tools"), tool_calls_last=last)
    asked = [{"role": "user", "content": "get_weather!"}]
    async with host(model) as one:
        response = await one.chat(messages=asked, tools=[TOOL])
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert [("tool_calls" in line["message"], line["done"]) for line in lines] == (
        [(True, True)] if last else [(True, False), (False, True)]
    )


async def test_think_levels_take_more_and_more_tokens() -> None:
    async with host(SimModel(NAME, capabilities=("completion", "thinking"))) as one:
        counts = [
            (await one.whole(think=level))["eval_count"]
            for level in (False, "low", "medium", "high", "max")
        ]
        default = (await one.whole())["eval_count"]
    assert counts == sorted(set(counts))
    assert default == counts[2]


async def test_a_schema_is_fulfilled() -> None:
    schema = {
        "type": "object",
        "required": ["name", "tags"],
        "properties": {
            "name": {"type": "string"},
            "tags": {"type": "array", "minItems": 2, "items": {"type": "integer"}},
        },
    }
    async with host() as one:
        value = json.loads((await one.whole(format=schema))["message"]["content"])
        anything = json.loads((await one.whole(format="json"))["message"]["content"])
    assert isinstance(value["name"], str)
    assert [type(tag) for tag in value["tags"]] == [int, int]
    assert isinstance(anything, dict)


async def test_vision_models_see_images_and_get_a_larger_context() -> None:
    async with host(SimModel("llava", capabilities=("completion", "vision"))) as one:
        seen = [{"role": "user", "content": "What is it?", "images": ["aGVsbG8="]}]
        options = {"num_ctx": 100}
        got = await one.chat(model="llava", messages=seen, stream=False, options=options)
        (running,) = (await one.http.get("/api/ps")).json()["models"]
    assert got.status_code == 200
    assert running["context_length"] == 2048


# Slots and queues


async def test_a_loaded_model_queues_without_bound_in_its_slots() -> None:
    model = SimModel(NAME, decode_tps=400)
    async with host(model, num_parallel=2, max_queue=1) as one, asyncio.TaskGroup() as group:
        await one.loads()
        tasks = [group.create_task(one.chat()) for _ in range(8)]
        await until(lambda: one.sim.stats.of(NAME).waiting.now == 6)
        assert one.sim.stats.of(NAME).running.now == 2
    assert [task.result().status_code for task in tasks] == [200] * 8
    assert one.sim.stats.of(NAME).running.most == 2
    assert one.sim.stats.of(NAME).running.now == 0


@pytest.mark.parametrize(
    "model",
    [SimModel("embed", capabilities=("embedding",)), SimModel("vl", family="qwen3vl")],
    ids=lambda model: model.name,
)
async def test_some_models_have_one_slot_whatever_is_set(model: SimModel) -> None:
    slow = SimModel(
        model.name, capabilities=model.capabilities, family=model.family, prefill_tps=1000
    )
    path = "/api/embed" if model.can("embedding") else "/api/generate"
    async with host(slow, num_parallel=4) as one, asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(one.post(path, model=model.name, input="a b c", prompt="a b c"))
    assert one.sim.stats.of(slow.ref.short).running.most == 1


async def test_only_those_that_wait_for_a_load_are_refused() -> None:
    models = [SimModel(f"m{at}", load_s=0.2) for at in range(4)]
    async with host(*models, max_queue=1) as one, asyncio.TaskGroup() as group:
        tasks = [group.create_task(one.chat(model=f"m{at}", stream=False)) for at in range(4)]
    statuses = sorted(task.result().status_code for task in tasks)
    refused = next(task.result() for task in tasks if task.result().status_code == 503)
    assert statuses == [200, 200, 503, 503]
    assert refused.json()["error"].startswith("server busy, please try again.  maximum")


async def test_a_queue_is_first_come_first_served() -> None:
    done: list[int] = []
    async with host(SimModel(NAME, decode_tps=2000)) as one, asyncio.TaskGroup() as group:

        async def ask(number: int) -> None:
            await one.chat()
            done.append(number)

        for number in range(5):
            group.create_task(ask(number))
            await until(lambda wanted=number: one.sim.stats.requests > wanted)
    assert done == sorted(done)


# Loading


async def test_loads_come_one_after_the_other_and_are_not_listed_before_they_are_done() -> None:
    models = [SimModel("a", load_s=0.3), SimModel("b", load_s=30)]
    async with host(*models) as one, asyncio.TaskGroup() as group:
        first = group.create_task(one.chat(model="a", messages=[]))
        second = group.create_task(one.chat(model="b", messages=[]))
        await until(lambda: one.sim.stats.in_flight.now == 2)
        assert (await one.http.get("/api/ps")).json() == {"models": []}
        await first
        assert one.sim.loaded == ["a:latest"]
        assert not second.done()
        second.cancel()


async def test_loaded_models_serve_while_another_loads() -> None:
    async with host(SimModel(NAME), SimModel("slow", load_s=30)) as one:
        await one.loads()
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(one.chat(model="slow"))
            await until(lambda: one.sim.stats.in_flight.now == 1)
            assert (await one.chat()).status_code == 200
            waiting.cancel()


async def test_a_client_that_leaves_aborts_its_load() -> None:
    async with host(SimModel(NAME, load_s=30)) as one:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(one.chat())
            await until(lambda: one.sim.stats.in_flight.now == 1)
            task.cancel()
        await until(lambda: one.sim.stats.in_flight.now == 0)
        assert one.sim.stats.of(NAME).loads_aborted == 1
        assert one.sim.stats.cancelled == 1
        assert one.sim.loaded == []


@pytest.mark.parametrize(
    ("first", "second", "loads"),
    [
        ({}, {}, 1),
        ({}, {"temperature": 0.1, "seed": 3, "num_predict": 4}, 1),
        ({}, {"num_ctx": 4096}, 1),
        ({}, {"num_ctx": 8192}, 2),
        ({"num_ctx": 8192}, {"num_ctx": 999_999}, 1),
        ({}, {"num_gpu": 0}, 2),
        ({}, {"num_thread": 4}, 2),
        ({}, {"use_mmap": False}, 2),
    ],
)
async def test_load_time_options_that_differ_reload(
    first: dict[str, object], second: dict[str, object], loads: int
) -> None:
    async with host() as one:
        await one.loads(**first)
        await one.loads(**second)
        assert one.sim.stats.of(NAME).loads == loads
        assert len(one.sim.loaded) == 1


async def test_the_modelfiles_parameters_count_and_shift_reloads() -> None:
    async with host(SimModel(NAME, parameters={"num_ctx": 512, "stop": ["."]})) as one:
        got = await one.whole()
        (running,) = (await one.http.get("/api/ps")).json()["models"]
        await one.chat(shift=False)
        assert one.sim.stats.of(NAME).loads == 2
    assert running["context_length"] == 512
    assert "." not in got["message"]["content"]


async def test_one_too_many_evicts_the_idle_model_with_the_shortest_keep_alive() -> None:
    models = [SimModel(name) for name in "abc"]
    async with host(*models, max_loaded_models=2) as one:
        await one.chat(model="a", messages=[], keep_alive="1m")
        await one.chat(model="b", messages=[], keep_alive="2m")
        await one.chat(model="c", messages=[])
        assert sorted(one.sim.loaded) == ["b:latest", "c:latest"]


async def test_a_load_waits_for_a_busy_model_to_finish() -> None:
    busy = SimModel("busy", decode_tps=200)
    async with host(busy, SimModel("next"), max_loaded_models=1) as one:
        await one.chat(model="busy", messages=[])
        async with asyncio.TaskGroup() as group:
            first = group.create_task(one.chat(model="busy"))
            await until(lambda: one.sim.stats.of("busy:latest").running.now == 1)
            second = group.create_task(one.chat(model="next", messages=[]))
            await until(lambda: one.sim.stats.in_flight.now == 2)
            assert not first.done()
            await second
            assert first.done()
        assert one.sim.loaded == ["next:latest"]


async def test_keep_alive_ends_residency() -> None:
    async with host(keep_alive_s=0.3) as one:
        await one.loads()
        assert one.sim.loaded == [NAME]
        await until(lambda: not one.sim.loaded)
        await one.chat(keep_alive=-1)
        await one.chat()  # the runner keeps what it was told
        (running,) = (await one.http.get("/api/ps")).json()["models"]
        assert int(running["expires_at"][:4]) > 2300
        await one.chat(keep_alive=0)
        assert one.sim.loaded == []


async def test_an_unload_waits_for_those_who_use_the_model() -> None:
    async with host(SimModel(NAME, decode_tps=200)) as one, asyncio.TaskGroup() as group:
        task = group.create_task(one.chat())
        await until(lambda: one.sim.stats.of(NAME).running.now == 1)
        unload = await one.post("/api/generate", model=NAME, keep_alive=0)
        assert unload.json()["done_reason"] == "unload"
        assert one.sim.loaded == [NAME]
        assert (await task).status_code == 200
        assert one.sim.loaded == []


# The prefix cache


async def test_a_known_prefix_is_counted_and_not_computed() -> None:
    async with host() as one:
        first = await one.whole()
        more = [*ASK["messages"], first["message"], {"role": "user", "content": "And then?"}]
        second = await one.whole(messages=more)
        stats = one.sim.stats.of(NAME)
    assert second["prompt_eval_count"] > first["prompt_eval_count"]
    assert stats.prompt_tokens == first["prompt_eval_count"] + second["prompt_eval_count"]
    assert stats.prompt_tokens_cached >= first["prompt_eval_count"]


async def test_prefill_and_decoding_take_their_time() -> None:
    model = SimModel(NAME, prefill_tps=1000, decode_tps=500)
    async with host(model) as one:
        first, again = await one.whole(), await one.whole()
    tokens = first["prompt_eval_count"]
    # A timer may fire a fraction of a millisecond early.
    assert first["prompt_eval_duration"] >= 0.9 * tokens / 1000 * 1e9
    assert again["prompt_eval_duration"] < first["prompt_eval_duration"]
    assert first["eval_duration"] >= 0.9 * (first["eval_count"] - 1) / 500 * 1e9


# Clients that leave, hosts that die


async def test_a_client_that_leaves_frees_its_slot() -> None:
    async with host(SimModel(NAME, decode_tps=20)) as one:
        body = {**ASK, "messages": [{"role": "user", "content": "Tell me in 900 words"}]}
        async with one.http.stream("POST", "/api/chat", json=body) as response:
            async for _ in response.aiter_lines():
                break
        await until(lambda: one.sim.stats.of(NAME).running.now == 0)
        assert one.sim.stats.cancelled == 1


async def test_a_killed_host_comes_back_with_nothing_loaded() -> None:
    async with host(SimModel(NAME, decode_tps=20)) as one:
        await one.loads()
        port = one.sim.port

        async def cut() -> None:
            with pytest.raises(httpx.TransportError):
                await one.http.post("/api/chat", json=ASK)

        async with asyncio.TaskGroup() as group:
            group.create_task(cut())
            await until(lambda: one.sim.stats.of(NAME).running.now == 1)
            one.sim.kill()
        with pytest.raises(httpx.ConnectError):
            await one.http.get("/")
        await one.sim.restart()
        assert one.sim.port == port
        assert (await one.http.get("/api/ps")).json() == {"models": []}
        assert (await one.http.get("/api/tags")).json()["models"][0]["name"] == NAME


async def test_models_come_and_go() -> None:
    async with host() as one:
        one.sim.install(SimModel("phi3"))
        assert [model.name for model in one.sim.models] == [NAME, "phi3"]
        await one.loads()
        one.sim.remove(NAME)
        assert (await one.chat()).status_code == 404
        assert one.sim.loaded == []


async def test_a_cloud_stub_is_listed_and_forbidden() -> None:
    async with host(SimModel("gpt-oss", remote_host="https://ollama.com:443")) as one:
        (entry,) = (await one.http.get("/api/tags")).json()["models"]
        got = await one.chat(model="gpt-oss")
    assert entry["remote_host"] == "https://ollama.com:443"
    assert got.status_code == 403


# Its own endpoints


async def test_requests_are_remembered_as_they_came() -> None:
    async with host() as one:
        await one.http.post("/api/chat", json=ASK, headers={"X-Request-Id": "r1"})
        (seen,) = one.sim.requests
    assert (seen.method, seen.path) == ("POST", "/api/chat")
    assert seen.json() == ASK
    assert seen.headers["x-request-id"] == "r1"


async def test_faults_and_counts_over_http() -> None:
    async with host() as one:
        added = await one.http.post("/_sim/faults", json={"kind": "status", "status": 503})
        assert (await one.chat()).status_code == 503
        listed = (await one.http.get("/_sim/faults")).json()["faults"]
        assert listed == [{"kind": "status", "status": 503, "id": added.json()["id"]}]
        await one.http.delete(f"/_sim/faults?id={added.json()['id']}")
        assert (await one.chat()).status_code == 200
        await one.http.post("/_sim/faults", json={"kind": "reset"})
        await one.http.delete("/_sim/faults")
        stats = (await one.http.get("/_sim/stats")).json()
        seen = (await one.http.get("/_sim/requests")).json()["requests"]
    assert stats["requests"] == len(seen) == 2
    assert stats["faults"] == {"status": 1}
    assert stats["models"][NAME]["generations"] == 1


@pytest.mark.parametrize("body", ["{", '{"kind":"no"}', '{"kind":"reset","colour":1}'])
async def test_a_fault_that_is_none_is_refused(body: str) -> None:
    async with host() as one:
        assert (await one.http.post("/_sim/faults", content=body)).status_code == 400
        assert one.sim.faults.all() == []
        assert (await one.http.get("/_sim/nothing")).status_code == 404


async def test_a_restart_over_http() -> None:
    async with host() as one:
        await one.loads()
        assert (await one.http.post("/_sim/restart")).status_code == 200
        assert not one.sim.loaded
        one.sim.faults.add(Fault(kind=Kind.SLOW, delay_s=0))
        assert (await one.chat()).status_code == 200
