"""Have a server render a conversation and generate nothing, and read what it made of the end.

Ollama has `_debug_render_only` for it since 0.11.5 (api/types.go), llama.cpp `/apply-template`, and
vLLM `/tokenize` and `/detokenize`, which between them give the prompt back. Each variant is the
body of a real request of the same alias: other options would make Ollama load the model anew.
"""

import re
from typing import NamedTuple

import msgspec

from arriero.config.settings import Model
from arriero.wire.canonical import Chat, Message, Sampling, Tool
from arriero.wire.dialect import BackendDialect
from arriero.wire.parsing import parse

BEGUN = "Zqx prefill. "  # ends with white space, which some templates take away
THOUGHT = "Zqx thought."
OLLAMA_PATH = b"/api/chat"
LLAMA_PATH = b"/apply-template"
VLLM_PATH = b"/tokenize"
VLLM_BACK_PATH = b"/detokenize"
_RENDERS_SINCE = (0, 11, 5)
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


class _DebugInfo(msgspec.Struct, gc=False):
    rendered_template: str


class _Rendered(msgspec.Struct, gc=False):
    debug_info: _DebugInfo | None = msgspec.field(default=None, name="_debug_info")


class _Prompt(msgspec.Struct, gc=False):
    prompt: str


class _Tokens(msgspec.Struct, gc=False):
    tokens: list[int]


class _Detokenize(msgspec.Struct, gc=False):
    model: str
    tokens: list[int]


_rendered = msgspec.json.Decoder(_Rendered)
_prompt = msgspec.json.Decoder(_Prompt)
_tokens = msgspec.json.Decoder(_Tokens)


class Variants(NamedTuple):
    """The conversations to render. One that the model cannot have is None."""

    plain: Chat
    tools: Chat | None
    thinking: Chat | None


def variants(alias: str, capabilities: frozenset[str]) -> Variants:
    """Return what to ask; `capabilities` are empty when the server does not tell."""
    can_think = "thinking" in capabilities
    tool = Tool("zqx", "Does nothing.", msgspec.Raw(b'{"type":"object","properties":{}}'))
    plain = _chat(alias, think=False if can_think else None)
    with_tools = _chat(alias, think=False if can_think else None)
    with_tools.tools = [tool]
    thinking = _chat(alias, thought=THOUGHT, think=True if can_think else None)
    unknown = not capabilities
    return Variants(
        plain,
        with_tools if unknown or "tools" in capabilities else None,
        thinking if unknown or can_think else None,
    )


def _chat(alias: str, *, think: bool | None, thought: str = "") -> Chat:
    # A server that does not know the field would generate: let that be one token.
    return Chat(
        model=alias,
        messages=[Message("user", "Zqx?"), Message("assistant", BEGUN, thought)],
        text_only=True,
        sampling=Sampling(max_tokens=1),
        think=think,
        continue_final_message=True,
    )


def can_render(version: str) -> bool:
    """Say whether an Ollama of this version renders without generating; 0.0.0 is self-built."""
    found = _VERSION.match(version)
    if found is None:
        return False
    numbers = tuple(map(int, found.groups()))
    return numbers >= _RENDERS_SINCE or numbers == (0, 0, 0)


def body_of(dialect: BackendDialect, chat: Chat, upstream_model: str, model: Model) -> bytes:
    """Return the body of a real request for `chat`."""
    return dialect.encode(chat, upstream_model, model)[1]


def ollama_body(body: bytes) -> bytes:
    """Return the body that has Ollama render what `body` would have it answer."""
    assert body.endswith(b"}")
    return body[:-1] + b',"_debug_render_only":true}'


def detokenize_body(upstream_model: str, tokens: list[int]) -> bytes:
    """Return the body that has vLLM turn tokens into text again."""
    return msgspec.json.encode(_Detokenize(upstream_model, tokens))


def decode_rendered(body: bytes) -> str:
    """Return the prompt in Ollama's answer. Raises ValueError when there is none."""
    info = parse(_rendered, body).debug_info
    if info is None:
        raise ValueError("the answer shows no prompt")
    return info.rendered_template


def decode_prompt(body: bytes) -> str:
    """Return the prompt in llama.cpp's and vLLM's answers. Raises ValueError if there is none."""
    return parse(_prompt, body).prompt


def decode_tokens(body: bytes) -> list[int]:
    """Return the tokens in vLLM's answer. Raises ValueError if there are none."""
    return parse(_tokens, body).tokens
