"""What each of Ollama's refusals means, and that no host is named in it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.wire.dialect import Failure, FailureKind
from arriero.wire.ollama import OLLAMA

CLIENT, MISSING, BUSY, BROKEN, FINAL = (
    FailureKind.CLIENT,
    FailureKind.MISSING_MODEL,
    FailureKind.BUSY,
    FailureKind.BROKEN,
    FailureKind.FINAL,
)


def failure(status: int, text: str) -> Failure:
    return OLLAMA.decode_failure(status, json.dumps({"error": text}).encode())


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (404, "model 'x' not found", MISSING),
        (404, 'model "x" not found, try pulling it first', MISSING),
        (400, "model is required", MISSING),
        (403, "ollama cloud is disabled: remote model inference is unavailable", MISSING),
        (400, "this server cannot run this remote model", MISSING),
        (400, "top_logprobs must be between 0 and 20", CLIENT),
        (400, "whatever is new", CLIENT),
        (400, 'option "top_k" must be of type integer', CLIENT),
        (500, 'option "top_k" must be of type integer', CLIENT),
        (500, 'invalid format: "x"; expected "json" or a valid JSON Schema object', CLIENT),
        (500, "Failed to parse grammar", CLIENT),
        (503, "server busy, please try again.  maximum pending requests exceeded", BUSY),
        (429, "slow down", BUSY),
        (500, "prediction aborted, token repeat limit reached", FINAL),
        (499, "request canceled", BROKEN),
        (500, "llama-server process has terminated: exit status 2", BROKEN),
        (500, "llama-server reported out-of-memory during startup: cudaMalloc", BROKEN),
        (500, "timed out waiting for llama-server to start - progress 0.00", BROKEN),
        (500, "model runner has unexpectedly stopped, check ollama server logs", BROKEN),
        (403, "forbidden by a proxy", BROKEN),
        (401, "unauthorized", BROKEN),
        (502, "bad gateway", BROKEN),
    ],
)
def test_kinds(status: int, text: str, kind: FailureKind) -> None:
    assert failure(status, text).kind is kind


@pytest.mark.parametrize(
    ("text", "param"),
    [
        ("registry.ollama.ai/library/llama3:8b does not support tools", "tools"),
        ('"llama3" does not support thinking', "reasoning_effort"),
        ('"nomic" does not support chat', "model"),
        ('"nomic" does not support generate', "model"),
        ("registry.ollama.ai/library/llama3:8b does not support insert", "suffix"),
        ("this model does not support image input", "messages"),
    ],
)
def test_capabilities_in_our_words_without_the_models_name(text: str, param: str) -> None:
    found = failure(400, text)
    assert (found.kind, found.status, found.param) == (CLIENT, 400, param)
    assert "llama3" not in found.message
    assert "nomic" not in found.message


def test_both_figures_are_taken_where_they_are_told() -> None:
    words = "request (9000 tokens) exceeds the available context size (4096 tokens), try increasing"
    inner = {"error": {"code": 400, "message": words, "type": "exceed_context_size_error"}}
    for body in ({"error": words}, {"error": json.dumps(inner)}, inner):
        found = OLLAMA.decode_failure(400, json.dumps(body).encode())
        assert (found.needed, found.available) == (9000, 4096)
    own = "the prompt is longer than the context length currently available: 12 tokens, 7 fit"
    found = failure(400, own)
    assert (found.needed, found.available) == (12, 7)
    fields = {"type": "exceed_context_size_error", "n_prompt_tokens": 9000, "n_ctx": 4096}
    found = failure(400, json.dumps({"error": {"message": "in other words", **fields}}))
    assert (found.needed, found.available) == (9000, 4096)
    found = failure(400, "the input length exceeds the context length")
    assert (found.needed, found.available) == (0, 0)


LLAMA_SERVER = json.dumps(
    {
        "error": {
            "code": 400,
            "message": "request (9000 tokens) does not fit into (4096 tokens)",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": 9000,
        }
    }
)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (400, "the input length exceeds the context length"),
        (500, "the input length exceeds the context length"),
        (400, "input after truncation exceeds maximum context length"),
        (400, "the prompt is longer than the context length currently available, reduce"),
        (400, "request (9000 tokens) exceeds the available context size (4096 tokens), try"),
        (400, LLAMA_SERVER),
        (400, f"llama-server: {LLAMA_SERVER}"),
    ],
)
def test_context_errors_have_openais_code(status: int, text: str) -> None:
    found = failure(status, text)
    assert (found.kind, found.status, found.code) == (CLIENT, 400, "context_length_exceeded")


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, b"404 page not found", BROKEN),
        (405, b"405 method not allowed", CLIENT),
        (503, b"<html><h1>Service Unavailable</h1></html>", BUSY),
        (502, b"<html>bad gateway</html>", BROKEN),
        (500, b"", BROKEN),
        (500, b"\xff\xfe", BROKEN),
        (500, b"[" * 100_000, BROKEN),
        (200, b"{}", BROKEN),
    ],
)
def test_bodies_that_are_not_ollamas(status: int, body: bytes, kind: FailureKind) -> None:
    found = OLLAMA.decode_failure(status, body)
    assert found.kind is kind
    assert found.message
    assert "<html>" not in found.message


def test_a_mid_stream_error_is_judged_by_its_words() -> None:
    text = "an error was encountered while running the model: CUDA error"
    assert OLLAMA.decode_stream_error(text) == Failure(BROKEN, text)
    assert OLLAMA.decode_stream_error("token repeat limit reached").kind is FINAL
    assert OLLAMA.decode_stream_error("exceeds the available context").code is not None
    assert OLLAMA.decode_stream_error("").message


@given(st.integers(100, 599), st.binary() | st.text().map(lambda text: json.dumps(text).encode()))
def test_any_answer_is_some_failure(status: int, body: bytes) -> None:
    found = OLLAMA.decode_failure(status, b'{"error":' + body + b"}")
    assert found.message
    assert "\n" not in found.message
    assert len(found.message) <= 400
