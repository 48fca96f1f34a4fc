"""Tools of a chat and the choice among them, in their present form and in the one before."""

from typing import Annotated

import msgspec
from msgspec import Meta

from arriero.base.errors import BadRequest, UnsupportedParameter
from arriero.wire.canonical import Tool
from arriero.wire.openai_body import ABSENT, decode_value

# What OpenAI means by leaving `parameters` out: a function without any.
_NO_PARAMETERS = msgspec.Raw(b'{"type":"object","properties":{}}')


class FunctionBody(msgspec.Struct):
    """A function the model may call."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    description: str | None = None
    parameters: msgspec.Raw = ABSENT
    strict: bool | None = None


class ToolBody(msgspec.Struct):
    """A tool; only functions exist here."""

    type: str = "function"
    function: FunctionBody | None = None


class _Named(msgspec.Struct):
    name: str


class _Choice(msgspec.Struct):
    type: str = "function"
    function: _Named | None = None
    name: str | None = None  # of the older `function_call`


_CHOICE: msgspec.json.Decoder[str | _Choice] = msgspec.json.Decoder(str | _Choice)
_MODES = frozenset({"auto", "none", "required"})


def tools(bodies: list[ToolBody]) -> list[Tool]:
    """Return `tools` in canonical form. Raises BadRequest."""
    return [_tool(body, index) for index, body in enumerate(bodies)]


def functions(bodies: list[FunctionBody]) -> list[Tool]:
    """Return the older `functions` in canonical form. Raises BadRequest."""
    return [_function(body, f"functions[{index}]") for index, body in enumerate(bodies)]


def tool_choice(raw: msgspec.Raw, offered: list[Tool], param: str) -> msgspec.Raw | None:
    """Return the choice in the form of `tool_choice`, or None where none was made.

    Raises BadRequest for a choice that no tool on offer can satisfy.
    """
    if bytes(raw) in {b"", b"null"}:
        return None
    choice = decode_value(_CHOICE, raw, param)
    if isinstance(choice, str):
        return _mode(choice, offered, param)
    name = choice.function.name if choice.function is not None else choice.name
    if choice.type != "function" or name is None:
        raise UnsupportedParameter(f"{param}: only a function can be chosen by name", param=param)
    if name not in {tool.name for tool in offered}:
        raise BadRequest(f"{param}: no tool is called {name[:64]!r}", param=param)
    return msgspec.Raw(msgspec.json.encode({"type": "function", "function": {"name": name}}))


def _mode(mode: str, offered: list[Tool], param: str) -> msgspec.Raw:
    if mode not in _MODES:
        raise BadRequest(
            f"{param}: unknown mode {mode[:64]!r}", param=param, hint="auto, none or required"
        )
    if mode == "required" and not offered:
        raise BadRequest(f"{param}: a call is required but no tools are given", param=param)
    return msgspec.Raw(f'"{mode}"'.encode())


def _tool(body: ToolBody, index: int) -> Tool:
    if body.type != "function":
        at = f"tools[{index}].type"
        raise UnsupportedParameter(
            f"{at}: tools of type {body.type[:64]!r} are not supported",
            param=at,
            hint="offer tools of type `function`",
        )
    if body.function is None:
        at = f"tools[{index}].function"
        raise BadRequest(f"{at} is required", param=at)
    return _function(body.function, f"tools[{index}].function")


def _function(body: FunctionBody, at: str) -> Tool:
    parameters = bytes(body.parameters)
    if parameters in {b"", b"null"}:
        return Tool(body.name, body.description or "", _NO_PARAMETERS, body.strict)
    if not parameters.startswith(b"{"):
        where = f"{at}.parameters"
        raise BadRequest(f"{where}: expected a JSON schema, an object", param=where)
    return Tool(body.name, body.description or "", body.parameters, body.strict)
