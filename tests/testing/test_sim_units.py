"""The simulations' small parts: text, names, durations, options, schemas, the command line."""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

import httpx2 as httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.testing.clock import FOREVER_S, nanoseconds, rfc3339
from arriero.testing.faults import Kind
from arriero.testing.ollama.__main__ import arguments, fault, model
from arriero.testing.ollama.compose import from_schema
from arriero.testing.ollama.decode import CHAT, BadBody, decode, duration_s
from arriero.testing.ollama.names import InvalidName, ModelRequired, parse
from arriero.testing.ollama.options import BadOption, merged, num_ctx, predict_limit
from arriero.testing.ollama.template import render, split_raw
from arriero.testing.text import normalise, prose, tokens, unit_vector


@given(st.text())
def test_tokens_joined_are_the_text(text: str) -> None:
    assert "".join(tokens(text)) == text


@given(st.text(), st.integers(0, 300))
def test_prose_has_so_many_words_and_repeats_itself(seed: str, words: int) -> None:
    assert len(prose(seed, words).split()) == words
    assert prose(seed, words) == prose(seed, words)


@given(st.text(), st.integers(1, 200))
def test_vectors_have_length_1(seed: str, dimensions: int) -> None:
    vector = unit_vector(seed, dimensions)
    assert len(vector) == dimensions
    assert sum(value * value for value in vector) == pytest.approx(1, abs=1e-5)


def test_the_zero_vector_stays() -> None:
    assert normalise([0.0, 0.0]) == [0.0, 0.0]


def test_times() -> None:
    assert rfc3339(0.5) == "1970-01-01T00:00:00.500000Z"
    assert rfc3339(FOREVER_S) > "2300"
    assert nanoseconds(1.5) == 1_500_000_000


@pytest.mark.parametrize(
    ("raw", "whole", "short"),
    [
        ("llama3", "registry.ollama.ai/library/llama3:latest", "llama3:latest"),
        ("llama3:8b", "registry.ollama.ai/library/llama3:8b", "llama3:8b"),
        ("me/mine", "registry.ollama.ai/me/mine:latest", "me/mine:latest"),
        ("hub.example/me/mine:1", "hub.example/me/mine:1", "hub.example/me/mine:1"),
        (
            "localhost:5000/me/mine",
            "localhost:5000/me/mine:latest",
            "localhost:5000/me/mine:latest",
        ),
        ("https://hub.example/me/mine", "hub.example/me/mine:latest", "hub.example/me/mine:latest"),
    ],
)
def test_names_are_completed(raw: str, whole: str, short: str) -> None:
    name = parse(raw)
    assert (str(name), name.short) == (whole, short)
    assert parse(raw.upper().replace("HTTPS", "https")).key == name.key


@pytest.mark.parametrize("raw", ["bad name", "a/b/c/d", "a:b:c", "-a", "a" * 81, "me.x/mine", "a:"])
def test_names_that_cannot_be(raw: str) -> None:
    with pytest.raises(InvalidName):
        parse(raw)
    with pytest.raises(ModelRequired):
        parse("  ")


@given(st.text(max_size=40))
def test_any_text_is_a_name_or_refused(raw: str) -> None:
    with contextlib.suppress(InvalidName, ModelRequired):
        assert parse(str(parse(raw))) == parse(raw)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (5, 5),
        (0.0, 0),
        (-1, FOREVER_S),
        ("-1s", FOREVER_S),
        ("0", 0),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5s", 1.5),
        ("100ms", 0.1),
        ("+2s", 2),
    ],
)
def test_durations(value: object, seconds: float) -> None:
    assert duration_s(value) == pytest.approx(seconds)


@given(st.one_of(st.text(max_size=12), st.floats(), st.booleans(), st.lists(st.integers())))
def test_any_duration_is_seconds_or_refused(value: object) -> None:
    with contextlib.suppress(BadBody):
        assert isinstance(duration_s(value), float)


@given(st.binary(max_size=120))
def test_any_body_is_a_dict_or_refused(body: bytes) -> None:
    with contextlib.suppress(BadBody):
        assert isinstance(decode(body, CHAT), dict)


def test_nulls_and_unknown_fields_are_no_mistakes() -> None:
    got = decode(b'{"model":null,"stream":null,"colour":"red"}', CHAT)
    assert got == {"colour": "red"}


def test_options_have_layers() -> None:
    options = merged({"top_k": 10, "seed": 1}, {"seed": 2.0, "temperature": None, "colour": 3})
    assert (options["top_k"], options["seed"], options["temperature"]) == (10, 2, 0.8)
    assert "colour" not in options
    with pytest.raises(BadOption):
        merged({"seed": True})


@pytest.mark.parametrize(
    ("asked", "default", "trained", "vision", "context"),
    [
        (0, 4096, 8192, False, 4096),
        (100, 4096, 8192, False, 100),
        (1, 4096, 8192, False, 4),
        (9000, 4096, 8192, False, 8192),
        (100, 4096, 8192, True, 2048),
    ],
)
def test_contexts(asked: int, default: int, trained: int, context: int, *, vision: bool) -> None:
    assert num_ctx(asked, default, trained, vision=vision) == context


@pytest.mark.parametrize(("asked", "limit"), [(-1, 1000), (0, 1000), (5, 5), (5000, 1000)])
def test_open_ended_answers_are_bounded(asked: int, limit: int) -> None:
    assert predict_limit(asked, 100) == limit


@given(user=st.text(), begun=st.text(min_size=1))
def test_a_rendered_prompt_can_be_taken_apart(user: str, begun: str) -> None:
    messages = [{"role": "user", "content": user}, {"role": "assistant", "content": begun}]
    if not any("<|im" in text for text in (user, begun)):
        assert split_raw(render(messages)) == (user, begun)
        assert split_raw(render(messages[:1])) == (user, "")


def test_a_prompt_without_a_template_is_all_question() -> None:
    assert split_raw("Once upon") == ("Once upon", "")


SCALARS: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
schemas = st.recursive(
    st.sampled_from(sorted(SCALARS)).map(lambda kind: {"type": kind}),
    lambda inner: st.one_of(
        st.builds(lambda items: {"type": "array", "items": items, "minItems": 2}, inner),
        st.dictionaries(st.sampled_from("abcd"), inner, min_size=1).map(
            lambda inside: {
                "type": "object",
                "properties": inside,
                "required": sorted(inside)[:2],
            }
        ),
        st.lists(inner, min_size=1, max_size=2).map(lambda several: {"anyOf": several}),
    ),
    max_leaves=6,
)


def fits(value: object, schema: Mapping[str, Any]) -> bool:
    if "anyOf" in schema:
        return any(fits(value, one) for one in schema["anyOf"])
    if schema["type"] == "array":
        assert isinstance(value, list)
        return len(value) >= 2 and all(fits(item, schema["items"]) for item in value)
    if schema["type"] == "object":
        assert isinstance(value, dict)
        return set(value) == set(schema["required"]) and all(
            fits(value[name], schema["properties"][name]) for name in value
        )
    return isinstance(value, SCALARS[schema["type"]])


@given(schemas)
def test_a_made_value_fits_its_schema(schema: dict[str, Any]) -> None:
    assert fits(from_schema(schema, "seed"), schema)


def test_a_schema_without_end_is_cut_off() -> None:
    endless: dict[str, Any] = {"type": "object", "required": ["again"]}
    endless["properties"] = {"again": endless}
    assert from_schema(endless, "seed")
    assert from_schema({"const": 4}, "seed") == 4
    assert from_schema({"enum": ["x", "y"]}, "seed") == "x"
    assert from_schema({"type": []}, "seed") is None


# The command line


def test_models_on_the_command_line() -> None:
    got = model("qwen3:8b,capabilities=completion+tools,load_s=2,size=7,continues_prefill=false")
    assert (got.name, got.capabilities) == ("qwen3:8b", ("completion", "tools"))
    assert (got.load_s, got.size, got.continues_prefill) == (2.0, 7, False)
    for wrong in ("x,colour=red", "x,load_s=soon", "x,load_s"):
        with pytest.raises(argparse.ArgumentTypeError):
            model(wrong)


def test_faults_on_the_command_line() -> None:
    got = fault("kind=reset_mid,after=5,probability=0.1,model=llama*")
    assert (got.kind, got.after, got.probability, got.model) == (Kind.RESET_MID, 5, 0.1, "llama*")
    for wrong in ("kind=no", "reset", "kind=reset,colour=red"):
        with pytest.raises(argparse.ArgumentTypeError):
            fault(wrong)


def test_settings_on_the_command_line() -> None:
    got = arguments(["--num-parallel", "2", "--keep-alive-s", "60", "--no-cloud", "false"])
    assert (got.num_parallel, got.keep_alive_s, got.no_cloud) == (2, 60.0, False)
    assert got.port == 11434


async def test_the_simulation_is_a_process() -> None:
    command = ["--port", "0", "--model", "llama3:8b", "--fault", "kind=status,status=503,count=1"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "arriero.testing.ollama",
        *command,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ},
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            url = (await process.stdout.readline()).decode().strip()
            async with httpx.AsyncClient(base_url=url) as client:
                body = {"model": "llama3:8b", "prompt": "hello"}
                statuses = [
                    (await client.post("/api/generate", json=body)).status_code for _ in range(2)
                ]
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()
    assert statuses == [503, 200]
    assert process.returncode == 0
