"""Tools and the choice among them."""

import json
from typing import Any

import pytest

from arriero.base.errors import BadRequest
from arriero.wire.canonical import Chat
from arriero.wire.openai_request import decode_chat

ADD = {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": ADD}
NAMED = {"type": "function", "function": {"name": "add"}}


def decode(**fields: Any) -> Chat:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    return decode_chat(json.dumps(body).encode())


def choice(**fields: Any) -> object:
    raw = decode(**fields).tool_choice
    return None if raw is None else json.loads(bytes(raw))


def refused(**fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        decode(**fields)
    return caught.value


def test_tools() -> None:
    (tool,) = decode(tools=[TOOL]).tools
    assert (tool.name, tool.description, tool.strict) == ("add", "Adds.", None)
    assert json.loads(bytes(tool.parameters)) == {"type": "object"}
    assert decode(tools=[{"function": {**ADD, "strict": True}}]).tools[0].strict is True
    assert decode(tools=[]).tools == []


@pytest.mark.parametrize("function", [{"name": "f"}, {"name": "f", "parameters": None}])
def test_a_function_without_parameters_has_none(function: object) -> None:
    (tool,) = decode(tools=[{"type": "function", "function": function}]).tools
    assert json.loads(bytes(tool.parameters)) == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"type": "web_search"}, "tools[1].type"),
        ({"type": "function"}, "tools[1].function"),
        ({"type": "function", "function": {}}, "tools[1].function.name"),
        ({"type": "function", "function": {"name": ""}}, "tools[1].function.name"),
        ({"type": "function", "function": {"name": 5}}, "tools[1].function.name"),
        (
            {"type": "function", "function": {"name": "f", "parameters": []}},
            "tools[1].function.parameters",
        ),
        ("add", "tools[1]"),
    ],
)
def test_bad_tools(tool: object, param: str) -> None:
    assert refused(tools=[TOOL, tool]).param == param


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_modes_are_kept_raw(mode: str) -> None:
    assert choice(tools=[TOOL], tool_choice=mode) == mode


def test_named_choice() -> None:
    assert choice(tools=[TOOL], tool_choice=NAMED) == NAMED


def test_none_takes_the_tools_away() -> None:
    got = decode(tools=[TOOL], tool_choice="none", parallel_tool_calls=False)
    assert (got.tools, got.tool_choice, got.parallel_tool_calls) == ([], None, None)


@pytest.mark.parametrize("mode", ["auto", "none", None])
def test_a_choice_that_asks_for_nothing_needs_no_tools(mode: str | None) -> None:
    assert choice(tool_choice=mode) is None


@pytest.mark.parametrize(
    "bad",
    ["any", 1, [], {}, {"type": "allowed_tools", "allowed_tools": {}}, {"type": "function"}],
)
def test_bad_choices(bad: object) -> None:
    assert (refused(tools=[TOOL], tool_choice=bad).param or "").startswith("tool_choice")


def test_a_choice_that_cannot_be_met_is_refused() -> None:
    other = {"type": "function", "function": {"name": "other"}}
    assert refused(tools=[TOOL], tool_choice=other).param == "tool_choice"
    assert refused(tool_choice="required").param == "tool_choice"
    assert refused(tool_choice=NAMED).param == "tool_choice"


def test_parallel_tool_calls() -> None:
    assert decode(tools=[TOOL], parallel_tool_calls=False).parallel_tool_calls is False
    assert decode(tools=[TOOL]).parallel_tool_calls is None


def test_legacy_functions() -> None:
    got = decode(functions=[ADD], function_call={"name": "add"})
    assert got.tools == decode(tools=[TOOL]).tools
    assert choice(functions=[ADD], function_call={"name": "add"}) == NAMED
    assert choice(functions=[ADD], function_call="auto") == "auto"
    assert decode(functions=[ADD], function_call="none").tools == []
    assert refused(functions=[ADD], function_call={"name": "x"}).param == "function_call"
    assert refused(functions=[ADD], tools=[TOOL]).param == "functions"
    assert refused(functions=[{"name": "f", "parameters": 1}]).param == "functions[0].parameters"
