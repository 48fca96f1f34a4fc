import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from arriero.embedded.engine import Cancelled, Engine, Outcome
from arriero.embedded.sampling import Options
from arriero.embedded.weights import Header, Weights

MODEL = "small:1m"
SYSTEM = "<|im_start|>system\nS<|im_end|>\n"
SAY = {"model": MODEL, "messages": [{"role": "user", "content": "the cat"}]}
SHORT = {"num_predict": 4, "temperature": 0}
COUNTERS = {
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
}
DETAILS = {
    "parent_model",
    "format",
    "family",
    "families",
    "parameter_size",
    "quantization_level",
}
Api = Any  # the conftest's `Api`; conftest modules cannot be imported
ServeEngine = Callable[[Engine], AbstractAsyncContextManager[Api]]


# What the host says of itself


async def test_root_and_version(api: Api) -> None:
    root = await api.call("GET", "/")
    assert (root.status, root.body) == (200, b"Ollama is running")
    assert set((await api.call("GET", "/api/version")).json) == {"version"}
    head = await api.call("HEAD", "/api/tags")
    assert (head.status, head.body) == (200, b"")


async def test_tags_list_the_one_model(api: Api) -> None:
    (entry,) = (await api.call("GET", "/api/tags")).json["models"]
    assert (entry["name"], entry["model"], entry["digest"]) == (MODEL, MODEL, "d" * 64)
    assert entry["capabilities"] == ["completion", "embedding"]
    assert set(entry["details"]) == DETAILS | {"context_length", "embedding_length"}


async def test_show(api: Api) -> None:
    shown = (await api.call("POST", "/api/show", {"model": MODEL})).json
    assert shown["template"] == "{{ messages }}"
    assert shown["model_info"]["llama.context_length"] == 256
    assert set(shown["details"]) == DETAILS
    assert (await api.call("POST", "/api/show", {"name": MODEL})).json == shown


async def test_the_model_is_loaded_by_its_first_request_and_unloaded_on_demand(api: Api) -> None:
    assert (await api.call("GET", "/api/ps")).json == {"models": []}
    body = SAY | {"options": SHORT | {"num_ctx": 200}, "keep_alive": "10m", "stream": False}
    await api.call("POST", "/api/chat", body)
    (entry,) = (await api.call("GET", "/api/ps")).json["models"]
    assert (entry["name"], entry["context_length"], entry["size_vram"]) == (MODEL, 200, 0)
    unloaded = await api.call("POST", "/api/generate", {"model": MODEL, "keep_alive": 0})
    assert unloaded.lines[-1]["done_reason"] == "unload"
    assert (await api.call("GET", "/api/ps")).json == {"models": []}


async def test_unloading_forgets_the_cached_conversations(api: Api, engine: Engine) -> None:
    await api.call("POST", "/api/chat", SAY | {"options": SHORT, "keep_alive": 0})
    (before,) = engine._pool.sequences
    await api.call("POST", "/api/chat", SAY | {"options": SHORT})
    (after,) = engine._pool.sequences
    assert after is not before


async def test_for_ever_is_far_away(api: Api) -> None:
    loaded = await api.call("POST", "/api/chat", {"model": MODEL, "keep_alive": -1})
    assert loaded.lines[-1]["done_reason"] == "load"
    (entry,) = (await api.call("GET", "/api/ps")).json["models"]
    assert entry["expires_at"] > "2300"


# Answers


@pytest.mark.parametrize(
    ("path", "ask", "key"),
    [("/api/chat", SAY, "message"), ("/api/generate", {"model": MODEL, "prompt": "a"}, "response")],
)
async def test_a_stream_says_the_same_as_a_whole_answer(
    api: Api, path: str, ask: dict[str, Any], key: str
) -> None:
    streamed = await api.call("POST", path, ask | {"options": SHORT})
    whole = await api.call("POST", path, ask | {"options": SHORT, "stream": False})
    assert streamed.content_type == "application/x-ndjson"
    assert whole.content_type == "application/json; charset=utf-8"

    def said(line: dict[str, Any]) -> str:
        text = line[key]["content"] if key == "message" else line[key]
        assert isinstance(text, str)
        return text

    *lines, last = streamed.lines
    assert all(set(line) == {"model", "created_at", key, "done"} for line in lines)
    assert not any(line["done"] for line in lines)
    assert set(last) == {"model", "created_at", key, "done", "done_reason"} | COUNTERS
    assert (last["done"], last["done_reason"], said(last)) == (True, "length", "")
    assert last["eval_count"] == 4
    assert said(whole.json) == "".join(map(said, lines))
    assert whole.json["prompt_eval_count"] == last["prompt_eval_count"]
    assert set(whole.json) == set(last)


async def test_a_trailing_answer_is_rendered_open(api: Api) -> None:
    messages = [{"role": "user", "content": "U"}, {"role": "assistant", "content": "ZQX"}]
    body = {"model": MODEL, "messages": messages, "_debug_render_only": True}
    answer = (await api.call("POST", "/api/chat", body)).json
    assert answer["_debug_info"]["rendered_template"].endswith("<|im_start|>assistant\nZQX")
    assert answer["message"] == {"role": "", "content": ""}
    assert (await api.call("GET", "/api/ps")).json == {"models": []}


@pytest.mark.parametrize(
    ("changes", "rendered"),
    [
        ({"raw": True}, "P"),
        (
            {"system": "S"},
            f"{SYSTEM}<|im_start|>user\nP<|im_end|>\n<|im_start|>assistant\n",
        ),
    ],
    ids=["raw", "system"],
)
async def test_generate_renders_or_takes_the_prompt_raw(
    api: Api, changes: dict[str, Any], rendered: str
) -> None:
    body = {"model": MODEL, "prompt": "P", "_debug_render_only": True} | changes
    answer = (await api.call("POST", "/api/generate", body)).json
    assert answer["_debug_info"] == {"rendered_template": rendered}


async def test_embeddings_come_in_the_order_of_their_texts(api: Api) -> None:
    many = await api.call("POST", "/api/embed", {"model": MODEL, "input": ["the", "cat"]})
    one = await api.call("POST", "/api/embed", {"model": MODEL, "input": "cat"})
    assert set(many.json) == {
        "model",
        "embeddings",
        "total_duration",
        "load_duration",
        "prompt_eval_count",
    }
    assert many.json["embeddings"][1] == one.json["embeddings"][0]
    assert len(one.json["embeddings"][0]) == 32
    few = await api.call("POST", "/api/embed", {"model": MODEL, "input": "cat", "dimensions": 3})
    assert sum(value**2 for value in few.json["embeddings"][0]) == pytest.approx(1, abs=1e-5)
    assert len(few.json["embeddings"][0]) == 3
    assert (await api.call("POST", "/api/embed", {"model": MODEL})).json["embeddings"] == []


@pytest.mark.parametrize(("letters", "status"), [(256, 200), (257, 400)])
async def test_an_input_may_be_as_long_as_the_context(api: Api, letters: int, status: int) -> None:
    body = {"model": MODEL, "input": "x" * letters, "truncate": False}
    answer = await api.call("POST", "/api/embed", body)
    assert answer.status == status
    if status == 400:
        assert answer.json == {"error": "the input length exceeds the context length"}
    cut = await api.call("POST", "/api/embed", body | {"truncate": True})
    assert cut.json["prompt_eval_count"] == 256


# Refusals


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/api/chat", SAY | {"model": "x"}, 404, "model 'x' not found"),
        ("/api/chat", SAY | {"model": ""}, 400, "model is required"),
        ("/api/generate", {"prompt": "x"}, 404, "model is required"),
        ("/api/embed", {"model": "x:y", "input": "a"}, 404, "model 'x:y' not found"),
        ("/api/show", {"model": "x"}, 404, "model 'x' not found"),
        (
            "/api/chat",
            SAY | {"tools": [{"type": "function"}]},
            400,
            f"registry.ollama.ai/library/{MODEL} does not support tools",
        ),
        ("/api/chat", SAY | {"think": True}, 400, f'"{MODEL}" does not support thinking'),
        ("/api/chat", SAY | {"think": "low"}, 400, f'"{MODEL}" does not support thinking'),
        (
            "/api/chat",
            SAY | {"format": "json"},
            400,
            f'"{MODEL}" does not support structured outputs',
        ),
        (
            "/api/chat",
            {"model": MODEL, "messages": [{"role": "user", "images": ["aGk="]}]},
            400,
            f'"{MODEL}" does not support vision',
        ),
        (
            "/api/generate",
            {"model": MODEL, "prompt": "a", "suffix": "b"},
            400,
            f"registry.ollama.ai/library/{MODEL} does not support insert",
        ),
        ("/api/chat", SAY | {"keep_alive": "soon"}, 400, "time: invalid duration 'soon'"),
    ],
)
async def test_refusals_have_the_words_of_ollama(
    api: Api, path: str, body: dict[str, Any], status: int, error: str
) -> None:
    answer = await api.call("POST", path, body)
    assert (answer.status, answer.json) == (status, {"error": error})


@pytest.mark.parametrize(
    "changes",
    [
        {"messages": "x"},
        {"options": {"temperature": "hot"}},
        {"options": {"repeat_penalty": 0}},
        {"stream": "yes"},
        {"messages": [{"content": "no role"}]},
    ],
    ids=lambda changes: next(iter(changes)) + str(len(str(changes))),
)
async def test_wrong_types_are_refused(api: Api, changes: dict[str, Any]) -> None:
    answer = await api.call("POST", "/api/chat", SAY | changes)
    assert answer.status == 400
    assert set(answer.json) == {"error"}


@pytest.mark.parametrize(
    "changes",
    [{"think": False}, {"tools": []}, {"format": ""}, {"format": None}, {"unknown": {"x": 1}}],
    ids=repr,
)
async def test_what_asks_for_nothing_is_no_reason_to_refuse(
    api: Api, changes: dict[str, Any]
) -> None:
    answer = await api.call("POST", "/api/chat", SAY | {"options": SHORT} | changes)
    assert answer.status == 200


async def test_a_body_is_needed(api: Api) -> None:
    answer = await api.call("POST", "/api/chat")
    assert (answer.status, answer.json) == (400, {"error": "missing request body"})


async def test_a_conversation_too_long_is_refused_or_loses_its_oldest_turns(api: Api) -> None:
    turns = [{"role": "system", "content": "S"}]
    turns += [{"role": "user", "content": "x" * 20}] * 3
    options = {"num_ctx": 60} | SHORT
    body = {"model": MODEL, "messages": turns, "options": options, "stream": False}
    assert (await api.call("POST", "/api/chat", body | {"truncate": False})).status == 400
    cut = await api.call("POST", "/api/chat", body)
    assert cut.status == 200
    assert 20 < cut.json["prompt_eval_count"] < 60


async def test_unknown_paths_and_methods(api: Api) -> None:
    unknown = await api.call("GET", "/api/nope")
    assert (unknown.status, unknown.body) == (404, b"404 page not found")
    assert (await api.call("GET", "/api/chat")).status == 405


# The slot


class Endless(Engine):
    """Answers for ever, until nobody listens; the tests learn when that is noticed."""

    def __init__(self, header: Header, weights: Weights) -> None:
        super().__init__(header, weights, lambda: 0.0)
        self.loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        self._pause = threading.Event()

    def generate(
        self, prompt: list[int], options: Options, outcome: Outcome, cancelled: Cancelled
    ) -> Iterator[str]:
        del prompt, options, outcome
        while not cancelled():
            yield "again "
            self._pause.wait(0.001)
        self.loop.call_soon_threadsafe(self.ended.set)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_client_that_leaves_ends_its_answer(
    serve_engine: ServeEngine, header: Header, weights: Weights, *, stream: bool
) -> None:
    engine = Endless(header, weights)
    async with serve_engine(engine) as api:
        reader, writer = await api.open("POST", "/api/chat", SAY | {"stream": stream})
        if stream:
            assert b"again" in await reader.readuntil(b"again")
        # The loop answers others while the model works for the first.
        assert (await api.call("GET", "/api/version")).status == 200
        assert not engine.ended.is_set()
        writer.close()
        async with asyncio.timeout(10):
            await engine.ended.wait()


async def test_a_broken_engine_is_a_defect_and_no_clean_end(
    serve_engine: ServeEngine, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Iterator[str]:
        yield "so far "
        raise ArithmeticError("no")

    monkeypatch.setattr(engine, "generate", broken)

    async def ask() -> None:
        async with serve_engine(engine) as api:
            reader, writer = await api.open("POST", "/api/chat", SAY)
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()

    with pytest.raises(ExceptionGroup) as caught:
        await ask()
    assert caught.value.subgroup(ArithmeticError)
