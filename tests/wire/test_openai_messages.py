"""Roles, content in parts, images and the history of tool calls."""

import base64
import json
from typing import Any

import pytest

from arriero.base.errors import BadRequest
from arriero.wire.canonical import Message, Part, ToolCall
from arriero.wire.openai_request import decode_chat

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n and so on").decode()
CALL = {"id": "call_7", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}


def decode(*messages: object) -> list[Message]:
    return decode_chat(json.dumps({"model": "m", "messages": messages}).encode()).messages


def refused(*messages: object) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        decode(*messages)
    return caught.value


def image(url: object) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}


@pytest.mark.parametrize(
    ("role", "becomes"),
    [("system", "system"), ("developer", "system"), ("user", "user"), ("assistant", "assistant")],
)
def test_roles(role: str, becomes: str) -> None:
    assert decode({"role": role, "content": "x"}) == [Message(becomes, "x")]  # type: ignore[arg-type]  # a Role


@pytest.mark.parametrize("role", ["robot", "", "User", "x" * 1000])
def test_unknown_roles_are_refused(role: str) -> None:
    error = refused({"role": "user", "content": "x"}, {"role": role, "content": "x"})
    assert error.param == "messages[1].role"
    assert len(error.message) < 200


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("x", "x"),
        (None, ""),
        ([], ""),
        ([{"type": "text", "text": "a"}], "a"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"),
        ([{"type": "refusal", "refusal": "no"}], "no"),
        ([{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}], "a"),
    ],
)
def test_content_that_is_text(content: object, text: str) -> None:
    assert decode({"role": "user", "content": content})[0].content == text


@pytest.mark.parametrize(
    ("content", "param"),
    [
        (1, "messages[0].content"),
        ({}, "messages[0].content"),
        ([1], "messages[0].content[0]"),
        ([{}], "messages[0].content[0].type"),
        ([{"type": "text"}], "messages[0].content[0].text"),
        ([{"type": "text", "text": 1}], "messages[0].content[0].text"),
        ([{"type": "input_audio", "input_audio": {}}], "messages[0].content[0].type"),
        ([{"type": "file", "file": {}}], "messages[0].content[0].type"),
        ([{"type": "image_url"}], "messages[0].content[0].image_url"),
        ([{"type": "image_url", "image_url": {}}], "messages[0].content[0].image_url.url"),
    ],
)
def test_bad_content(content: object, param: str) -> None:
    assert refused({"role": "user", "content": content}).param == param


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        ("data:image/png;base64,", "image/png"),
        ("data:image/jpeg;base64,", "image/jpeg"),
        ("data:image/jpg;base64,", "image/jpeg"),
        ("data:image/webp;base64,", "image/webp"),
        ("data:image/gif;base64,", "image/gif"),
        ("DATA:IMAGE/PNG;BASE64,", "image/png"),
        ("data:image/png;name=a.png;base64,", "image/png"),
        ("data:;base64,", "image/png"),
    ],
)
def test_images(head: str, kind: str) -> None:
    part = Part(image_base64=PNG, image_type=kind)
    assert decode(image(head + PNG))[0].content == [part]
    as_string = {"role": "user", "content": [{"type": "image_url", "image_url": head + PNG}]}
    assert decode(as_string)[0].content == [part]


def test_text_and_images_keep_their_order() -> None:
    message = image(f"data:image/png;base64,{PNG}")
    message["content"].append({"type": "text", "text": "What is it?"})
    content = decode(message)[0].content
    assert isinstance(content, list)
    assert [bool(part.image_base64) for part in content] == [True, False]
    assert content[1].text == "What is it?"


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/a.png",
        "http://169.254.169.254/",
        "file:///etc/passwd",
        "data:image/png,plain",
        f"data:image/svg+xml;base64,{PNG}",
        "data:image/png;base64,",
        "data:image/png;base64,abc",
        "data:image/png;base64,ab=c",
        "data:image/png;base64,ab\ncd",
        "data:image/png;base64,äöüß",
        "data:;base64,AAAA",
        "",
    ],
)
def test_bad_images(url: str) -> None:
    assert refused(image(url)).param == "messages[0].content[0].image_url.url"


def test_remote_images_are_refused_with_the_way_out() -> None:
    assert "data:" in refused(image("https://example.org/a.png")).text


@pytest.mark.parametrize("field", ["audio", "images"])
def test_media_beside_the_content_are_refused(field: str) -> None:
    assert refused({"role": "assistant", field: ["x"]}).param == f"messages[0].{field}"
    assert decode({"role": "assistant", "content": "x", field: None})[0].content == "x"


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_past_thinking(field: str) -> None:
    assert decode({"role": "assistant", "content": "x", field: "hm"})[0].thinking == "hm"


def test_refusals_of_the_past_are_content() -> None:
    got = decode({"role": "assistant", "content": None, "refusal": "no"})
    assert got == [Message("assistant", "no")]


def test_tool_calls_and_their_results() -> None:
    got = decode(
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_7", "content": "2"},
    )
    assert got == [
        Message("assistant", "", tool_calls=[ToolCall("call_7", "add", '{"a":1}')]),
        Message("tool", "2", tool_call_id="call_7", tool_name="add"),
    ]


def test_a_call_without_id_gets_one() -> None:
    nameless = {"function": {"name": "add"}}
    got = decode({"role": "assistant", "tool_calls": [nameless, nameless]})
    ids = [call.id for call in got[0].tool_calls]
    assert len(set(ids)) == 2
    assert all(one.startswith("call_") for one in ids)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"a":1}', '{"a":1}'),
        ("", "{}"),
        ("  ", "{}"),
        (None, "{}"),
        ({"a": 1}, '{"a": 1}'),
        ("{}", "{}"),
    ],
)
def test_arguments(arguments: object, text: str) -> None:
    call = {"id": "call_1", "function": {"name": "f", "arguments": arguments}}
    assert decode({"role": "assistant", "tool_calls": [call]})[0].tool_calls[0].arguments == text


@pytest.mark.parametrize(
    "arguments",
    ["{", "[]", "1", "null", '"x"', 1, [], "{}{}", "[" * 9999],
    ids=lambda value: repr(value)[:8],
)
def test_bad_arguments(arguments: object) -> None:
    call = {"id": "call_1", "function": {"name": "f", "arguments": arguments}}
    error = refused({"role": "user"}, {"role": "assistant", "tool_calls": [call, call]})
    assert error.param == "messages[1].tool_calls[0].function.arguments"


@pytest.mark.parametrize(
    ("call", "param"),
    [
        ({}, "messages[0].tool_calls[0].function"),
        ({"function": {}}, "messages[0].tool_calls[0].function.name"),
        ({"type": "custom", "function": {"name": "f"}}, "messages[0].tool_calls[0].type"),
    ],
)
def test_bad_calls(call: object, param: str) -> None:
    assert refused({"role": "assistant", "tool_calls": [call]}).param == param


def test_results_need_to_say_what_they_answer() -> None:
    assert refused({"role": "tool", "content": "2"}).param == "messages[0].tool_call_id"
    assert decode({"role": "tool", "content": "2", "name": "add"})[0].tool_name == "add"


def test_legacy_function_calls() -> None:
    call = {"name": "add", "arguments": '{"a":1}'}
    got = decode(
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "add", "content": "2"},
    )
    assert got[0].tool_calls[0].name == "add"
    assert got[1].role == "tool"
    assert got[1].tool_call_id == got[0].tool_calls[0].id
    assert got[1].tool_name == "add"


def test_a_result_of_a_function_nobody_called() -> None:
    got = decode(
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "function", "name": "sub", "content": "2"},
    )
    assert (got[1].tool_name, got[1].tool_call_id) == ("sub", "")
