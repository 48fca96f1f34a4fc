"""The questions about a template are real requests; their answers are read for what they are."""

import json

import pytest

from arriero.config.settings import Model
from arriero.wire.ollama import OLLAMA
from arriero.wire.openai_backend import OPENAI
from arriero.wire.prefill import (
    BEGUN,
    THOUGHT,
    body_of,
    can_render,
    decode_prompt,
    decode_rendered,
    decode_tokens,
    detokenize_body,
    ollama_body,
    variants,
)

MODEL = Model(name="m", routes=(), context=2048, keep_alive=-1, options={"num_gpu": 3})


def test_ollama_is_asked_with_the_aliass_own_options() -> None:
    asked = variants("m", frozenset({"completion"}))
    body = json.loads(ollama_body(body_of(OLLAMA, asked.plain, "llama3:8b", MODEL)))
    assert body.pop("_debug_render_only") is True
    real = json.loads(body_of(OLLAMA, asked.plain, "llama3:8b", MODEL))
    assert body == real
    assert body["options"]["num_ctx"] == 2048, "another context would load the model anew"
    assert body["options"]["num_gpu"] == 3
    assert body["options"]["num_predict"] == 1, "should it generate after all"
    assert body["keep_alive"] == -1
    assert body["stream"] is False
    assert body["messages"][-1] == {"role": "assistant", "content": BEGUN}
    assert BEGUN.rstrip() != BEGUN, "or trimming would not be seen"


@pytest.mark.parametrize(
    ("capabilities", "tools", "thinking"),
    [
        ({"completion"}, False, False),
        ({"completion", "tools"}, True, False),
        ({"completion", "thinking"}, False, True),
        (set(), True, True),
    ],
)
def test_only_what_a_model_can_is_asked(
    capabilities: set[str], *, tools: bool, thinking: bool
) -> None:
    asked = variants("m", frozenset(capabilities))
    assert (asked.tools is not None, asked.thinking is not None) == (tools, thinking)
    can_think = "thinking" in capabilities
    assert asked.plain.think is (False if can_think else None)
    if asked.tools is not None:
        assert asked.tools.tools
        assert not asked.plain.tools
    if asked.thinking is not None:
        assert asked.thinking.think is (True if can_think else None)
        assert asked.thinking.messages[-1].thinking == THOUGHT


def test_servers_of_openais_api_are_told_to_leave_the_message_open() -> None:
    body = json.loads(body_of(OPENAI, variants("m", frozenset()).plain, "qwen", MODEL))
    assert body["continue_final_message"] is True
    assert body["add_generation_prompt"] is False
    assert body["model"] == "qwen"
    assert json.loads(detokenize_body("qwen", [1, 2])) == {"model": "qwen", "tokens": [1, 2]}


@pytest.mark.parametrize(
    ("version", "can"),
    [
        ("0.11.4", False), ("0.11.5", True), ("0.33.0-rc2", True), ("0.33.0-arriero", True),
        ("v1.0.0", True), ("0.0.0", True), ("0.5.13", False), ("", False), ("new", False),
    ],
)  # fmt: skip
def test_only_versions_that_render_are_asked(version: str, *, can: bool) -> None:
    assert can_render(version) is can


def test_answers_are_read() -> None:
    rendered = b'{"model":"m","done":false,"_debug_info":{"rendered_template":"<a>x"}}'
    assert decode_rendered(rendered) == "<a>x"
    assert decode_prompt(b'{"prompt":"<a>x"}') == "<a>x"
    assert decode_tokens(b'{"count":2,"max_model_len":9,"tokens":[4,5]}') == [4, 5]


def test_an_ollama_that_generated_instead_shows_no_prompt() -> None:
    with pytest.raises(ValueError, match="shows no prompt"):
        decode_rendered(b'{"message":{"role":"assistant","content":"x"},"done":true}')
    for decode in (decode_prompt, decode_tokens):
        with pytest.raises(ValueError, match="missing"):
            decode(b"{}")
