"""A stream whose backend is gone goes on elsewhere, and its client cannot tell."""

import contextlib
from asyncio import TaskGroup
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from tests.integration.arena import (
    ALIAS,
    MODEL,
    QUICK,
    Running,
    events,
    eventually,
    serving,
    settings,
    sim,
)
from tests.integration.asking import CHAT, Answer, ask, asking, body_of, get

from arriero.core.prefill import template_of
from arriero.testing.faults import Fault, Kind
from arriero.testing.host import Seen, SimHost
from arriero.testing.ollama import OllamaSim, SimModel
from arriero.testing.openai_bodies import Flavour
from arriero.testing.openai_server import OpenAiSim

VERIFIES = True  # these tests need verdicts about templates
BREAKS = [
    Kind.RESET_MID,
    Kind.CLOSE_MID,
    Kind.EOF_MID,
    Kind.ERROR_MID,
    Kind.MALFORMED_MID,
    Kind.HANG_MID,
    Kind.CRASH,
]
# Longer than the arena's own: on a busy machine a stall would break a stream once more.
PATIENT = msgspec.structs.replace(QUICK, first_token_s=1.5, inter_token_s=1.0, response_s=5.0)
USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}


def host(*names: str, **model: Any) -> OllamaSim:
    return sim(*names, decode_tps=400, **model)


def server(flavour: Flavour = "llama.cpp") -> OpenAiSim:
    return OpenAiSim(SimModel(MODEL, decode_tps=400), flavour=flavour, slots=8)


@contextlib.asynccontextmanager
async def fleet(*hosts: SimHost, known: bool = True, **more: Any) -> AsyncIterator[Running]:
    """Run a gateway before these hosts; its model's template is verified.

    They share one book of faults, so that a fault strikes the next request wherever it goes.
    """
    async with contextlib.AsyncExitStack() as stack:
        for each in hosts:
            each.faults = hosts[0].faults
            await stack.enter_async_context(each)
        urls = [each.url for each in hosts]
        config = settings(*urls, **({"timeouts": PATIENT} | more))
        running = await stack.enter_async_context(serving(config))
        if known:
            await verified(running)
        yield running


async def verified(running: Running) -> None:
    """Have each model loaded and each template verified, as first streams do."""
    gateway = running.gateway
    targets = gateway.runtime.fleet.aliases[ALIAS].targets
    async with TaskGroup() as group:
        for _ in targets:
            group.create_task(ask(running.port, stream=True))

    def known() -> bool:
        templates = [template_of(target.host, target.model) for target in targets]
        return all(each and gateway.verdicts.get(each) for each in templates)

    await eventually(known, "verdicts about the templates")


async def broken(
    running: Running, hosts: tuple[SimHost, ...], fault: Fault, **body: Any
) -> tuple[Answer, SimHost]:
    """Let the next stream break off; return its answer and the host that had no part in that."""
    struck = [sum(each.stats.faults.values()) for each in hosts]
    fault.count = 1
    hosts[0].faults.add(fault)
    answer = await ask(running.port, body.pop("path", CHAT), **({"stream": True} | body))
    now = [sum(each.stats.faults.values()) for each in hosts]
    assert sum(now) == sum(struck) + 1, "the fault has struck"
    return answer, next(each for at, each in enumerate(hosts) if now[at] == struck[at])


def outcomes(running: Running) -> dict[str, int]:
    return {labels[0]: n for labels, n in running.gateway.metrics.resumptions.counts.items()}


def asked(each: SimHost) -> list[Seen]:
    """The requests for an answer."""
    return [
        seen
        for seen in each.requests
        if seen.method == "POST" and "/c" in seen.path and b"_debug_render_only" not in seen.body
    ]


def choices(answer: Answer) -> list[Any]:
    return [c for e in answer.events if isinstance(e, dict) for c in e.get("choices", ())]


def ids(answer: Answer) -> set[str]:
    return {event["id"] for event in answer.events if isinstance(event, dict)}


def roles(answer: Answer) -> int:
    return sum("role" in choice["delta"] for choice in choices(answer))


def finish(answer: Answer) -> list[str]:
    return [choice["finish_reason"] for choice in choices(answer) if choice["finish_reason"]]


def usage(answer: Answer) -> list[Any]:
    told = [e["usage"] for e in answer.events if isinstance(e, dict) and e.get("usage")]
    return [(each["prompt_tokens"], each["completion_tokens"]) for each in told]


@pytest.mark.parametrize("temperature", [None, 0])
@pytest.mark.parametrize("kind", BREAKS)
async def test_the_client_cannot_tell(kind: Kind, temperature: int | None) -> None:
    hosts = (host(), host())
    more: dict[str, Any] = {**USAGE, "temperature": temperature}
    async with fleet(*hosts) as running:
        whole = await ask(running.port, stream=True, **more)
        answer, _ = await broken(running, hosts, Fault(kind=kind, after=6), **more)
        assert answer.good, answer
        assert answer.text == whole.text
        assert len(ids(answer)) == 1
        assert roles(answer) == 1
        assert finish(answer) == finish(whole) == ["stop"]
        assert usage(answer) == usage(whole)
        assert outcomes(running) == {"resumed": 1}


async def test_the_other_host_is_asked_to_go_on() -> None:
    hosts = (host(), host())
    fault = Fault(kind=Kind.RESET_MID, after=6)
    async with fleet(*hosts) as running:
        answer, other = await broken(running, hosts, fault, max_tokens=20, seed=3)
        body = asked(other)[-1].json()
        begun = body["messages"].pop()
        assert begun["role"] == "assistant"
        assert answer.text.startswith(begun["content"])
        assert body["messages"] == body_of()["messages"]
        assert body["options"] == {"num_predict": 14, "seed": 3}


async def test_all_streams_of_a_killed_host_go_on() -> None:
    dying, alive = host(), host()
    async with fleet(dying, alive) as running:
        whole = await ask(running.port, stream=True)
        tokens = dying.stats.of(MODEL).tokens
        async with TaskGroup() as group:
            tasks = [group.create_task(ask(running.port, stream=True)) for _ in range(10)]
            await eventually(lambda: dying.stats.of(MODEL).tokens >= tokens + 20, "streams there")
            dying.kill()
        answers = [task.result() for task in tasks]
        assert [answer for answer in answers if not answer.good] == []
        assert {answer.text for answer in answers} == {whole.text}
        assert outcomes(running)["resumed"] > 0


@pytest.mark.parametrize(("breaks", "good"), [(2, True), (3, False)])
async def test_a_stream_is_resumed_twice_and_no_more(breaks: int, *, good: bool) -> None:
    hosts = tuple(host() for _ in range(4))
    async with fleet(*hosts) as running:
        whole = await ask(running.port, stream=True)
        for _ in range(breaks):
            fault = Fault(kind=Kind.ERROR_MID, after=3, endpoint="/api/chat", count=1)
            hosts[0].faults.add(fault)
        answer = await ask(running.port, stream=True)
        assert answer.good is good
        assert whole.text.startswith(answer.text)
        if good:
            assert outcomes(running) == {"resumed": 2}
            return
        assert answer.error
        assert answer.error["code"] == "backend_failed"
        assert answer.headers["x-request-id"] in answer.error["message"]
        assert outcomes(running) == {"resumed": 2, "refused": 1}


@pytest.mark.parametrize("kind", [Kind.STATUS, Kind.RESET, Kind.HANG, Kind.GARBAGE])
async def test_one_that_cannot_go_on_is_passed_by(kind: Kind) -> None:
    hosts = tuple(host() for _ in range(3))
    async with fleet(*hosts) as running:
        whole = await ask(running.port, stream=True)
        for fault in (Fault(kind=Kind.CLOSE_MID, after=4), Fault(kind=kind)):
            fault.endpoint, fault.count = "/api/chat", 1
            hosts[0].faults.add(fault)
        answer = await ask(running.port, stream=True)
        assert not hosts[0].faults.all()
        assert answer.good
        assert answer.text == whole.text
        assert outcomes(running) == {"resumed": 1}


@pytest.mark.parametrize("status", [400, 500])
async def test_when_nobody_can_go_on_the_break_is_told(status: int) -> None:
    hosts = (host(), host())
    async with fleet(*hosts) as running:
        fault = Fault(kind=Kind.CLOSE_MID, after=4, endpoint="/api/chat", count=1)
        hosts[0].faults.add(fault)
        hosts[0].faults.add(Fault(kind=Kind.STATUS, status=status, endpoint="/api/chat"))
        answer = await ask(running.port, stream=True)
        assert answer.text
        assert not answer.done
        assert answer.error
        assert answer.error["code"] == "backend_failed"
        assert "broke off" in answer.error["message"], "whatever the other host said"
        assert outcomes(running) == {"failed": 1}


@pytest.mark.parametrize(
    ("model", "body", "fault"),
    [
        ({}, {"response_format": {"type": "json_object"}}, {}),
        ({}, {"logprobs": True}, {}),
        ({"continues_prefill": False}, {}, {}),
        ({"capabilities": ("completion", "thinking")}, {}, {}),
        ({}, {}, {"kind": Kind.REPEAT}),
        (
            {},
            {},
            {"kind": Kind.ERROR_MID, "text": "prediction aborted, token repeat limit reached"},
        ),
    ],
    ids=["json", "logprobs", "closed", "thinking", "repeats", "aborted"],
)
async def test_what_cannot_be_gone_on_with_ends_in_an_error(
    model: dict[str, Any], body: dict[str, Any], fault: dict[str, Any]
) -> None:
    hosts = (host(**model), host(**model))
    named: dict[str, Any] = {"kind": Kind.RESET_MID, "after": 3}
    struck = Fault(**(named | fault))
    async with fleet(*hosts) as running:
        answer, other = await broken(running, hosts, struck, **body)
        assert not answer.done
        assert answer.clean
        assert answer.error
        assert answer.error["type"] == "server_error"
        assert answer.headers["x-request-id"] in answer.error["message"]
        assert outcomes(running) == {"refused": 1}
        assert b'"assistant"' not in asked(other)[-1].body


async def test_nothing_goes_on_behind_a_tool_call() -> None:
    able = ("completion", "tools")
    hosts = (host(capabilities=able), host(capabilities=able))
    async with fleet(*hosts) as running:
        # The call is the only piece, and comes before the line that ends the answer.
        fault = Fault(kind=Kind.RESET_MID, after=1)
        answer, _ = await broken(running, hosts, fault, tools=[TOOL], text="Use get_weather")
        assert any("tool_calls" in choice["delta"] for choice in choices(answer))
        assert not answer.done
        assert answer.error
        assert outcomes(running) == {"refused": 1}


async def test_text_goes_on_where_tools_were_offered_and_not_called() -> None:
    able = ("completion", "tools")
    hosts = (host(capabilities=able), host(capabilities=able))
    async with fleet(*hosts) as running:
        whole = await ask(running.port, stream=True, tools=[TOOL])
        fault = Fault(kind=Kind.RESET_MID, after=5)
        answer, _ = await broken(running, hosts, fault, tools=[TOOL])
        assert (answer.good, answer.text) == (True, whole.text)


async def test_other_weights_do_not_go_on() -> None:
    hosts = (host(), host(digest="0" * 64))
    async with fleet(*hosts, known=False) as running:
        answer, _ = await broken(running, hosts, Fault(kind=Kind.RESET_MID, after=4))
        assert not answer.good
        assert outcomes(running) == {"refused": 1}


async def test_a_template_that_nobody_has_verified_is_not_trusted() -> None:
    hosts = (host(), host())
    async with fleet(*hosts, known=False) as running:
        running.gateway.nudge = lambda _alias, _target: None
        answer, _ = await broken(running, hosts, Fault(kind=Kind.RESET_MID, after=4))
        assert not answer.good
        assert outcomes(running) == {"refused": 1}


async def test_the_first_stream_of_a_model_is_resumed_already() -> None:
    hosts = (sim(decode_tps=40), sim(decode_tps=40))
    async with fleet(*hosts, known=False) as running:
        answer, _ = await broken(running, hosts, Fault(kind=Kind.RESET_MID, after=14))
        assert answer.good, "its template was verified while it ran"
        assert outcomes(running) == {"resumed": 1}


async def test_text_behind_thoughts_goes_on() -> None:
    able = ("completion", "thinking")
    hosts = (host(capabilities=able), host(capabilities=able))
    async with fleet(*hosts) as running:
        whole = await ask(running.port, stream=True)
        thoughts = sum("reasoning" in str(event) for event in whole.events)
        fault = Fault(kind=Kind.RESET_MID, after=thoughts + 4)
        answer, other = await broken(running, hosts, fault)
        assert answer.good
        assert answer.text == whole.text
        assert sum("reasoning" in str(event) for event in answer.events) == thoughts
        assert asked(other)[-1].json()["messages"][-1]["thinking"]


async def test_white_space_that_a_template_takes_away_comes_once() -> None:
    text = "one \n\n two \n\n three"
    hosts = tuple(host(trims_prefill=True, replies={"Say": text}) for _ in "ab")
    async with fleet(*hosts) as running:
        for after in range(1, 5):
            answer, _ = await broken(running, hosts, Fault(kind=Kind.EOF_MID, after=after))
            assert answer.text == text
        assert outcomes(running) == {"resumed": 4}


async def test_a_completion_goes_on_too() -> None:
    hosts = (host(), host())
    body = {"model": ALIAS, "prompt": "Say it in 12 words", "stream": True, "echo": True}
    async with fleet(*hosts) as running:
        path = "/v1/completions"
        whole = await ask(running.port, path, body=body)
        fault = Fault(kind=Kind.RESET_MID, after=5)
        answer, other = await broken(running, hosts, fault, body=body, path=path)
        assert asked(other)[-1].path == "/api/chat"
        texts = ["".join(c["text"] for c in choices(each)) for each in (answer, whole)]
        assert texts[0] == texts[1]
        assert texts[0].startswith("Say it in 12 words")
        assert answer.done


async def test_an_answer_that_the_client_began_goes_on() -> None:
    hosts = (host(), host())
    async with fleet(*hosts) as running:
        whole = await ask(running.port, stream=True)
        begun = whole.text[: len(whole.text) // 3]
        messages = [*body_of()["messages"], {"role": "assistant", "content": begun}]
        body = {"model": ALIAS, "messages": messages, "stream": True}
        answer, other = await broken(running, hosts, Fault(kind=Kind.EOF_MID, after=3), body=body)
        assert begun + answer.text == whole.text
        sent = asked(other)[-1].json()["messages"]
        assert [message["role"] for message in sent] == ["user", "assistant"]


async def test_an_answer_that_lacks_only_its_end_is_ended() -> None:
    hosts = (host(), host())
    more: dict[str, Any] = {"max_tokens": 7, **USAGE}
    async with fleet(*hosts) as running:
        whole = await ask(running.port, stream=True, **more)
        before = [len(asked(each)) for each in hosts]
        answer, _ = await broken(running, hosts, Fault(kind=Kind.RESET_MID, after=7), **more)
        assert answer.good
        assert answer.text == whole.text
        assert finish(answer) == finish(whole) == ["length"]
        assert usage(answer)[0][1] == 7
        assert outcomes(running) == {"completed": 1}
        assert sum(len(asked(each)) for each in hosts) == sum(before) + 1, "nobody else was asked"


async def test_the_limit_of_tokens_holds_for_the_whole() -> None:
    hosts = (host(), host())
    more: dict[str, Any] = {"max_tokens": 10, **USAGE}
    async with fleet(*hosts) as running:
        whole = await ask(running.port, stream=True, **more)
        answer, _ = await broken(running, hosts, Fault(kind=Kind.CLOSE_MID, after=6), **more)
        assert (answer.text, finish(answer)) == (whole.text, ["length"])
        assert usage(answer) == usage(whole)


async def test_where_other_words_come_the_whole_text_is_given() -> None:
    said = ("The same words here and then more", "Other words altogether and more of them")
    hosts = tuple(host(digest="1" * 64, replies={"Say": text}) for text in said)
    async with fleet(*hosts) as running:
        fault = Fault(kind=Kind.RESET_MID, after=2)
        answer, other = await broken(running, hosts, fault, temperature=0)
        assert answer.good
        first, second = [seen.json()["messages"][-1]["content"] for seen in asked(other)[-2:]]
        assert second.startswith(first)
        assert len(second) > len(first), "cut back at first"
        assert answer.text.startswith(second)
        assert outcomes(running) == {"resumed": 1}


@pytest.mark.parametrize("flavour", ["llama.cpp", "vllm"])
@pytest.mark.parametrize("more", [USAGE, {}], ids=["usage", "plain"])
async def test_streams_that_were_passed_on_unread_go_on(
    flavour: Flavour, more: dict[str, Any]
) -> None:
    hosts = (server(flavour), server(flavour))
    async with fleet(*hosts, kinds=["openai", "openai"]) as running:
        whole = await ask(running.port, stream=True, **more)
        answer, other = await broken(running, hosts, Fault(kind=Kind.RESET_MID, after=6), **more)
        assert answer.good
        assert answer.text == whole.text
        assert len(ids(answer)) == 1
        assert roles(answer) == 1
        assert finish(answer) == ["stop"]
        assert usage(answer) == usage(whole)
        assert {event["model"] for event in answer.events[:-1]} == {ALIAS}
        body = asked(other)[-1].json()
        assert body["continue_final_message"] is True
        assert body["add_generation_prompt"] is False
        assert outcomes(running) == {"resumed": 1}


async def test_json_that_was_passed_on_unread_does_not_go_on() -> None:
    hosts = (server(), server())
    body = {"response_format": {"type": "json_object"}}
    async with fleet(*hosts, kinds=["openai", "openai"]) as running:
        answer, _ = await broken(running, hosts, Fault(kind=Kind.RESET_MID, after=3), **body)
        assert not answer.good
        assert answer.error
        assert outcomes(running) == {"refused": 1}


async def test_one_host_alone_has_nobody_to_go_on() -> None:
    async with host() as only, serving(settings(only, timeouts=PATIENT)) as running:
        only.faults.add(Fault(kind=Kind.RESET_MID, after=4, endpoint="/api/chat", count=1))
        answer = await ask(running.port, stream=True)
        assert not answer.good
        assert outcomes(running) == {"refused": 1}


async def test_who_goes_on_is_served_before_those_who_wait() -> None:
    hosts = (sim(decode_tps=200), sim(decode_tps=200))
    async with fleet(*hosts, slots=1) as running, TaskGroup() as group:
        before = [len(asked(each)) for each in hosts]

        def new(at: int) -> list[Seen]:
            return asked(hosts[at])[before[at] :]

        hosts[0].faults.add(Fault(kind=Kind.RESET_MID, after=10, count=1))
        broken_off = group.create_task(ask(running.port, stream=True))
        await eventually(lambda: new(0) or new(1), "the first stream")
        other = 1 if new(0) else 0
        long = group.create_task(ask(running.port, stream=True, text="Say it in 60 words"))
        await eventually(lambda: new(other), "the second stream, at the other host")
        waiting = [group.create_task(ask(running.port, stream=True)) for _ in range(3)]
        answers = [await task for task in (broken_off, long, *waiting)]
        assert [answer for answer in answers if not answer.good] == []
        assert new(other)[1].json()["messages"][-1]["role"] == "assistant"
        assert outcomes(running) == {"resumed": 1}


async def test_one_kind_of_server_does_not_go_on_for_the_other() -> None:
    hosts: tuple[SimHost, ...] = (server(), host())
    async with fleet(*hosts, kinds=["openai", "ollama"], known=False) as running:
        answer, _ = await broken(running, hosts, Fault(kind=Kind.RESET_MID, after=4))
        assert not answer.good
        assert outcomes(running) == {"refused": 1}


async def test_it_is_counted_and_told() -> None:
    hosts = (host(), host())
    async with fleet(*hosts) as running:
        with events() as seen:
            answer, _ = await broken(running, hosts, Fault(kind=Kind.RESET_MID, after=4))
        assert [line for line in seen if line.startswith("stream resumed backend=")]
        page = (await get(running.port, "/metrics")).body.decode()
        assert 'arriero_resumptions_total{outcome="resumed"} 1.0' in page
        assert answer.headers["x-request-id"]


async def test_a_client_that_leaves_while_its_stream_is_resumed_leaves_nothing() -> None:
    hosts = (host(), host())
    async with fleet(*hosts) as running:
        for fault in (Fault(kind=Kind.ERROR_MID, after=4), Fault(kind=Kind.HANG)):
            fault.endpoint, fault.count = "/api/chat", 1
            hosts[0].faults.add(fault)
        async with asking(running.port, body_of(stream=True)) as leaving:
            await eventually(lambda: not hosts[0].faults.all(), "the other host was asked")
            await leaving.leave()
        await running.at_rest()
        assert outcomes(running) == {}
