"""What Ollama does with a model, held against the simulation, or against a real one.

`tests/testing/asking.py` says how to ask a real one. Each test names the file of Ollama's
repository that it follows.
"""

import json
import math
from datetime import datetime

import pytest
from tests.testing.asking import METRICS, REAL, SHORT, USER, Answer, Host

LINE = {"model", "created_at", "message", "done"}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": {
            "type": "object",
            "required": ["city"],
            "properties": {"city": {"type": "string"}},
        },
    },
}
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJ"
    "RU5ErkJggg=="
)


# Framing


async def test_a_chat_streams_lines_of_json_unless_told_not_to(host: Host) -> None:
    """server/routes.go, streamResponse."""
    got = await host.chat()
    assert (got.status, got.type) == (200, "application/x-ndjson")
    assert got.text.endswith("\n")
    *pieces, last = got.lines
    assert pieces
    for piece in pieces:
        assert set(piece) == LINE
        assert (piece["done"], piece["message"]["role"]) == (False, "assistant")
    assert set(last) == LINE | {"done_reason"} | METRICS
    assert (last["done"], last["message"]) == (True, {"role": "assistant", "content": ""})


async def test_a_whole_answer_is_what_its_stream_says(host: Host) -> None:
    """server/routes.go, writeChatResponse."""
    whole = await host.chat(stream=False)
    assert (whole.status, whole.type) == (200, "application/json; charset=utf-8")
    assert set(whole.json) == LINE | {"done_reason"} | METRICS
    assert whole.json["message"]["content"] == (await host.chat()).said


async def test_times_are_rfc_3339_and_durations_whole_nanoseconds(host: Host) -> None:
    """api/types.go, ChatResponse and Metrics."""
    whole = (await host.chat(stream=False)).json
    assert datetime.fromisoformat(whole["created_at"][:19]) > datetime(2026, 1, 1)  # noqa: DTZ001 - both without a zone
    assert all(isinstance(whole[name], int) for name in METRICS)
    assert whole["total_duration"] >= whole["eval_duration"]


async def test_generate_has_a_response_and_a_context(host: Host) -> None:
    """api/types.go, GenerateResponse."""
    *pieces, last = (await host.generate()).lines
    assert set(pieces[0]) == {"model", "created_at", "response", "done"}
    fields = {"model", "created_at", "response", "done", "done_reason", "context"}
    assert set(last) == fields | METRICS
    assert all(isinstance(token, int) for token in last["context"])


async def test_a_raw_prompt_gets_no_context_back(host: Host) -> None:
    """server/routes.go, GenerateHandler."""
    got = (await host.generate(raw=True, stream=False)).json
    assert "context" not in got
    assert got["response"]


# Where an answer ends


async def test_num_predict_ends_an_answer_with_length(host: Host) -> None:
    """llm/llama_server.go: stop_type limit."""
    got = (await host.chat(stream=False, options={**SHORT, "num_predict": 3})).json
    assert (got["done_reason"], got["eval_count"]) == ("length", 3)


async def test_num_predict_0_is_no_limit(host: Host) -> None:
    """llm/llama_server.go: left out when empty, so llama-server's default holds."""
    story = [{"role": "user", "content": "Tell me a story in 200 words."}]
    options = {**SHORT, "num_predict": 0}
    body = {"model": await host.model("plain"), "messages": story, "options": options}
    count = 0
    async with host.client.stream("POST", "/api/chat", json=body) as response:
        async for _ in response.aiter_lines():
            count += 1
            if count > 3:
                break
    assert count > 3


async def test_a_stop_string_is_not_in_the_answer(host: Host) -> None:
    """docs/modelfile.mdx, stop."""
    said = (await host.chat()).said
    stop = said[2:5]
    got = (await host.chat(stream=False, options={**SHORT, "stop": [stop]})).json
    assert (got["done_reason"], got["message"]["content"]) == ("stop", said[: said.index(stop)])


async def test_the_prompt_is_counted_whole_when_it_was_cached(host: Host) -> None:
    """llm/llama_server.go, promptEvalCount."""
    first, second = [(await host.chat(stream=False)).json for _ in range(2)]
    assert first["prompt_eval_count"] == second["prompt_eval_count"] > 3


# Loading and unloading


async def test_no_messages_load_and_unload_the_model(host: Host) -> None:
    """server/routes.go, ChatHandler."""
    name = await host.model("plain")
    loaded = (await host.chat(messages=[])).json
    assert set(loaded) == LINE | {"done_reason"}
    assert (loaded["done"], loaded["done_reason"]) == (True, "load")
    assert name in await host.running()
    unloaded = (await host.chat(messages=[], keep_alive=0)).json
    assert (unloaded["done_reason"], unloaded["message"]["content"]) == ("unload", "")
    assert name not in await host.running()


async def test_no_prompt_loads_and_unloads_the_model(host: Host) -> None:
    """server/routes.go, GenerateHandler."""
    assert (await host.generate(prompt="")).json["done_reason"] == "load"
    got = (await host.generate(prompt="", keep_alive="0s")).json
    assert set(got) == {"model", "created_at", "response", "done", "done_reason"}
    assert got["done_reason"] == "unload"


async def test_ps_tells_context_and_expiry(host: Host) -> None:
    """api/types.go, ProcessModelResponse."""
    name = await host.model("plain")
    await host.chat(messages=[], keep_alive="7m")
    entry = (await host.running())[name]
    assert entry["context_length"] == SHORT["num_ctx"]
    await host.chat(messages=[], keep_alive=-1)
    later = (await host.running())[name]
    assert int(later["expires_at"][:4]) > int(entry["expires_at"][:4]) + 100
    await host.chat(messages=[], keep_alive="5m")


async def test_another_num_ctx_reloads_the_model(host: Host) -> None:
    """server/sched.go, needsReload."""
    name = await host.model("plain")
    await host.chat(messages=[])
    await host.chat(messages=[], options={"num_ctx": 1024})
    assert (await host.running())[name]["context_length"] == 1024


async def test_the_context_is_at_most_what_the_model_was_trained_for(host: Host) -> None:
    """server/sched.go, effectiveContext."""
    name = await host.model("plain")
    shown = (await host.post("/api/show", {"model": name})).json["model_info"]
    trained = shown[f"{shown['general.architecture']}.context_length"]
    await host.chat(messages=[], options={"num_ctx": trained + 1000})
    assert (await host.running())[name]["context_length"] == trained


# Refusals


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_ctx": "big"}, 'option "num_ctx" must be of type integer'),
        ({"temperature": "hot"}, 'option "temperature" must be of type float32'),
        ({"use_mmap": 1}, 'option "use_mmap" must be of type boolean'),
        ({"stop": "x"}, 'option "stop" must be of type array'),
        ({"stop": [1]}, 'option "stop" must be of an array of strings'),
    ],
)
async def test_an_option_of_a_wrong_type_is_a_500(
    host: Host, options: dict[str, object], text: str
) -> None:
    """api/types.go, FromMap; an error that handleScheduleError does not know."""
    got = await host.chat(options=options)
    assert (got.status, got.error) == (500, text)


async def test_unknown_options_are_ignored(host: Host) -> None:
    """api/types.go, FromMap."""
    got = await host.chat(options={**SHORT, "no_such_option": {}}, no_such_field=1)
    assert got.status == 200


async def test_tools_need_the_capability(host: Host) -> None:
    """server/routes.go: the model's complete name."""
    got = await host.chat(tools=[TOOL])
    name = await host.model("plain")
    refused = f"registry.ollama.ai/library/{name} does not support tools"
    assert (got.status, got.error) == (400, refused)


async def test_thinking_needs_the_capability(host: Host) -> None:
    """server/routes.go: the name as it was asked for."""
    got = await host.chat(think=True)
    name = await host.model("plain")
    assert (got.status, got.error) == (400, f'"{name}" does not support thinking')
    assert (await host.chat(think=False)).status == 200


async def test_a_suffix_needs_the_capability(host: Host) -> None:
    """server/routes.go, GenerateHandler."""
    got = await host.generate(suffix="}")
    assert got.status == 400
    assert got.error.endswith("does not support insert")


async def test_an_embedding_model_does_not_chat(host: Host) -> None:
    """server/routes.go: errCapabilityCompletion."""
    name = await host.model("embedding")
    got = await host.post("/api/chat", {"model": name, "messages": USER})
    assert (got.status, got.error) == (400, f'"{name}" does not support chat')
    got = await host.post("/api/generate", {"model": name, "prompt": "x"})
    assert (got.status, got.error) == (400, f'"{name}" does not support generate')


async def test_raw_goes_without_a_system_prompt(host: Host) -> None:
    """server/routes.go, GenerateHandler."""
    got = await host.generate(raw=True, system="Be brief.")
    assert got.error == "raw mode does not support template, system, or context"


async def test_a_format_is_json_or_a_schema(host: Host) -> None:
    """llm/llama_server.go, Completion."""
    got = await host.chat(format="xml")
    text = 'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object'
    assert (got.status, got.error) == (500, text)


async def test_images_need_vision(host: Host) -> None:
    """llama-server refuses, and Ollama hands its JSON on as a string."""
    got = await host.chat(messages=[{**USER[0], "images": [PIXEL]}])
    assert got.status == 400
    assert "does not support multimodal" in json.loads(got.error)["error"]["message"]


@pytest.mark.parametrize(("path", "status"), [("/api/embed", 501), ("/api/embeddings", 500)])
async def test_a_chat_model_does_not_embed(host: Host, path: str, status: int) -> None:
    """llama-server refuses; the two handlers hand its status on or not."""
    body = {"model": await host.model("plain"), "input": "one", "prompt": "one"}
    got = await host.post(path, body)
    text = "This server does not support embeddings. Start it with `--embeddings`"
    assert (got.status, got.error) == (status, text)


# Contexts that do not fit


def long_prompt() -> str:
    return "word " * 400


async def test_an_overlong_message_is_cut_without_a_word(host: Host) -> None:
    """llm/llama_server.go, completionPromptForRequest."""
    messages = [{"role": "user", "content": long_prompt()}]
    got = (await host.chat(messages=messages, stream=False, options={**SHORT, "num_ctx": 256})).json
    assert 0 < got["prompt_eval_count"] < 256


async def test_the_oldest_messages_are_dropped_but_never_system_or_last(host: Host) -> None:
    """server/prompt.go, chatPrompt."""
    messages = [
        {"role": "system", "content": "SYSTEM"},
        {"role": "user", "content": long_prompt()},
        {"role": "assistant", "content": "OLD"},
        {"role": "user", "content": "LAST"},
    ]
    got = await host.chat(
        messages=messages, options={**SHORT, "num_ctx": 256}, _debug_render_only=True
    )
    rendered = got.json["_debug_info"]["rendered_template"]
    assert "word" not in rendered
    assert "SYSTEM" in rendered
    assert "LAST" in rendered


async def test_without_truncation_an_overlong_prompt_is_refused(host: Host) -> None:
    """llama-server's exceed_context_size_error, handed on as a string."""
    messages = [{"role": "user", "content": long_prompt()}]
    got = await host.chat(messages=messages, truncate=False, options={**SHORT, "num_ctx": 256})
    assert got.status == 400
    inner = json.loads(got.error)["error"]
    assert (inner["type"], inner["n_ctx"]) == ("exceed_context_size_error", 256)


async def test_without_shift_an_overlong_prompt_is_refused(host: Host) -> None:
    """llm/llama_server.go, completionPromptForRequest."""
    messages = [{"role": "user", "content": long_prompt()}]
    got = await host.chat(messages=messages, shift=False, options={**SHORT, "num_ctx": 256})
    assert got.status == 400
    assert got.error.startswith("the prompt is longer than the context length currently available")


async def test_without_shift_a_full_context_ends_the_answer(host: Host) -> None:
    """llama-server without --context-shift: stop_type limit."""
    story = [{"role": "user", "content": "Write a very long story in 900 words about a dog."}]
    options = {"num_ctx": 256, "num_predict": 600, "temperature": 0, "repeat_penalty": 1.3}
    got = (await host.chat(messages=story, shift=False, stream=False, options=options)).json
    assert got["done_reason"] == "length"
    assert got["prompt_eval_count"] + got["eval_count"] in range(250, 258)


# Rendering, log probabilities, formats


async def test_debug_rendering_generates_nothing(host: Host) -> None:
    """server/routes.go, ChatHandler."""
    got = (await host.chat(_debug_render_only=True)).json
    assert set(got) == LINE | {"_debug_info"}
    assert (got["done"], got["message"]) == (False, {"role": "", "content": ""})
    assert USER[0]["content"] in got["_debug_info"]["rendered_template"]


async def test_log_probabilities_come_with_each_piece(host: Host) -> None:
    """server/logprob.go."""
    first = (await host.chat(logprobs=True)).lines[0]
    (own,) = first["logprobs"]
    assert set(own) == {"token", "logprob", "bytes"}
    assert bytes(own["bytes"]).decode() == own["token"] == first["message"]["content"]
    whole = (await host.chat(logprobs=True, top_logprobs=2, stream=False)).json
    assert len(whole["logprobs"]) >= 3
    assert len(whole["logprobs"][0]["top_logprobs"]) == 2


@pytest.mark.parametrize("shape", ["json", {"type": "object", "required": ["a"]}])
async def test_a_format_makes_json(host: Host, shape: object) -> None:
    """llm/llama_server.go, Completion."""
    got = await host.chat(format=shape, stream=False)
    assert got.json["message"]["content"].lstrip().startswith("{")


# What models can do beyond text


async def test_a_thinking_model_thinks_first_and_by_default(host: Host) -> None:
    """server/routes.go, ChatHandler."""
    got = await host.chat(kind="thinking", options={**SHORT, "num_predict": 200})
    kinds = ["thinking" if "thinking" in line["message"] else "content" for line in got.lines[:-1]]
    assert kinds[0] == "thinking"
    assert kinds == sorted(kinds, reverse=True)
    silent = await host.chat(kind="thinking", think=False, stream=False)
    assert "thinking" not in silent.json["message"]


async def test_a_tool_call_comes_whole_with_arguments_as_an_object(host: Host) -> None:
    """api/types.go, ToolCall."""
    asked = [{"role": "user", "content": "Use get_weather for Lima."}]
    got = await host.chat(
        kind="tools",
        messages=asked,
        tools=[TOOL],
        stream=False,
        options={"num_predict": 400, "temperature": 0},
    )
    if REAL and "tool_calls" not in got.json["message"]:
        pytest.skip("the model did not call the tool")
    (call, *_) = got.json["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert isinstance(call["function"]["arguments"], dict)
    assert got.json["done_reason"] == "stop"


async def test_embeddings_are_unit_vectors(host: Host) -> None:
    """server/routes.go, EmbedHandler."""
    name = await host.model("embedding")
    got = (await host.post("/api/embed", {"model": name, "input": ["one", "two"]})).json
    fields = {"model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"}
    assert set(got) == fields
    assert [round(math.hypot(*vector), 3) for vector in got["embeddings"]] == [1, 1]
    short = (await host.post("/api/embed", {"model": name, "input": "one", "dimensions": 8})).json
    assert round(math.hypot(*short["embeddings"][0]), 3) == 1
    assert len(short["embeddings"][0]) == 8


async def test_no_input_embeds_nothing(host: Host) -> None:
    """server/routes.go, EmbedHandler: loads the model."""
    name = await host.model("embedding")
    got = (await host.post("/api/embed", {"model": name})).json
    assert got == {"model": name, "embeddings": []}


async def test_an_overlong_input_is_refused_when_it_must_not_be_cut(host: Host) -> None:
    """server/routes.go, EmbedHandler."""
    name = await host.model("embedding")
    body = {"model": name, "input": "word " * 9000, "truncate": False}
    got = await host.post("/api/embed", body)
    assert (got.status, got.error) == (400, "the input length exceeds the context length")


async def test_the_older_embeddings(host: Host) -> None:
    """server/routes.go, EmbeddingsHandler."""
    name = await host.model("embedding")
    got = (await host.post("/api/embeddings", {"model": name, "prompt": "one"})).json
    assert set(got) == {"embedding"}
    assert got["embedding"]
    assert (await host.post("/api/embeddings", {"model": name})).json == {"embedding": []}


# OpenAI's dialect


async def v1(host: Host, **more: object) -> Answer:
    body = {"model": await host.model("plain"), "messages": USER, "max_tokens": 8, "seed": 1}
    return await host.post("/v1/chat/completions", {**body, "temperature": 0, **more})


async def test_a_v1_stream(host: Host) -> None:
    """middleware/openai.go, ChatWriter."""
    got = await v1(host, stream=True, stream_options={"include_usage": True})
    assert (got.status, got.type) == (200, "text/event-stream")
    first, *_, finish, usage, done = got.events
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert set(first) == {"id", "object", "created", "model", "system_fingerprint", "choices"}
    assert (finish["choices"][0]["delta"], finish["choices"][0]["finish_reason"]) == ({}, "length")
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 8
    assert done == "[DONE]"
    said = [event["choices"][0]["delta"].get("content", "") for event in got.events[:-2]]
    assert "".join(said) == (await v1(host)).json["choices"][0]["message"]["content"]


async def test_a_whole_v1_answer(host: Host) -> None:
    """openai/openai.go, ToChatCompletion."""
    got = (await v1(host)).json
    assert got["object"] == "chat.completion"
    assert set(got["choices"][0]) == {"index", "message", "finish_reason"}
    assert set(got["choices"][0]["message"]) == {"role", "content"}
    assert set(got["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}


async def test_v1_ignores_max_completion_tokens(host: Host) -> None:
    """openai/openai.go, ChatCompletionRequest: there is no such field."""
    got = (await v1(host, max_completion_tokens=1)).json
    assert got["usage"]["completion_tokens"] == 8


async def test_v1_completions(host: Host) -> None:
    """openai/openai.go, ToCompletion."""
    body = {"model": await host.model("plain"), "prompt": "Say hello.", "max_tokens": 4}
    got = (await host.post("/v1/completions", body)).json
    assert got["object"] == "text_completion"
    assert set(got["choices"][0]) == {"text", "index", "finish_reason"}
    streamed = await host.post("/v1/completions", {**body, "stream": True})
    assert streamed.events[-1] == "[DONE]"
    assert streamed.events[-2]["choices"][0]["finish_reason"] == "length"


async def test_v1_embeddings(host: Host) -> None:
    """openai/openai.go, ToEmbeddingList."""
    name = await host.model("embedding")
    body = {"model": name, "input": ["one", "two"]}
    got = (await host.post("/v1/embeddings", body)).json
    assert [entry["index"] for entry in got["data"]] == [0, 1]
    assert set(got["usage"]) == {"prompt_tokens", "total_tokens"}
    packed = (await host.post("/v1/embeddings", {**body, "encoding_format": "base64"})).json
    assert isinstance(packed["data"][0]["embedding"], str)


# Clients that leave


async def test_a_client_that_leaves_frees_its_slot(host: Host) -> None:
    """net/http cancels the request's context, and llama-server its task."""
    body = {"model": await host.model("plain"), "messages": USER, "options": {"num_ctx": 2048}}
    async with host.client.stream("POST", "/api/chat", json=body) as response:
        async for _ in response.aiter_lines():
            break
    assert (await host.chat(stream=False)).json["done"]
