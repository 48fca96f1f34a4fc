"""The words of a backend that refuses: found in whatever shape they come, cleaned for clients.

Ollama writes `{"error": "text"}`, OpenAI's servers `{"error": {"message", "type", "code"}}`, older
vLLM `{"message", "type"}`, FastAPI `{"detail"}`, and proxies in between plain text or HTML. Ollama
forwards llama-server's JSON as a string inside its own, so that one may have to unwrap twice.
"""

import re

import msgspec

from arriero.wire.parsing import parse

TEXT_CHARS_MAX = 400
_NESTING_MAX = 4
_COUNT_MAX = 1_000_000_000
_BODY_BYTES_MAX = 65_536  # no refusal is longer; what is cut off is no JSON and read as text

# What would tell a client about the inside of the fleet.
_PRIVATE = re.compile(
    r"""
      \b[a-z][a-z0-9+.-]*://[^\s"'<>]+                 # a URL
    | \b(?:localhost|\d{1,3}(?:\.\d{1,3}){3})(?::\d+)?\b  # an IPv4 address
    | \[[0-9a-f:]*:[0-9a-f:.]*\](?::\d+)?                # an IPv6 address
    | \b(?=[\w.-]*[a-z])[\w.-]+:\d{2,5}\b(?=\s*(?:->|:|$))  # host:port, as Go writes it
    | (?<![\w.])(?:[a-z]:)?[/\\][\w.@+-]+(?:[/\\][\w.@+:-]*)+  # a file's path
    | \bsha256[:-][0-9a-f]{12,}                          # a blob
    """,
    re.IGNORECASE | re.VERBOSE,
)
# Errors about a template quote it, and a Modelfile's template or system prompt is its owner's.
_MODELFILE = re.compile(r"\btemplate: |modelfile|\bjinja\b|<\|[a-z_]+\|>|\{\{", re.IGNORECASE)

_any = msgspec.json.Decoder()


class Refusal(msgspec.Struct, frozen=True):
    """A backend's own words: one line, uncleaned, and the type and code it gave them.

    `needed` and `available` are llama.cpp's counts of tokens for a prompt that is too long.
    """

    message: str = ""
    type: str = ""
    needed: int = 0
    available: int = 0


def read_refusal(body: bytes) -> Refusal:
    """Return what `body` says, in any of the shapes above; plain text stands for itself."""
    return _read(body[:_BODY_BYTES_MAX].decode("utf-8", "replace"), _NESTING_MAX)


def error_text(raw: bytes) -> str:
    """Return the message of an `error` value, which is a string or an object."""
    return read_refusal(raw).message or "the backend reported an error without words"


def clean(text: str) -> str:
    """Return `text` as one line that may be shown to a client.

    Addresses, paths and digests become "..."; a text that quotes a template is withheld.
    """
    if _MODELFILE.search(text):
        return "the backend could not render the request with the model's template"
    line = " ".join(_PRIVATE.sub("...", text).split())
    return line if len(line) <= TEXT_CHARS_MAX else line[: TEXT_CHARS_MAX - 3] + "..."


def _read(text: str, depth: int) -> Refusal:
    whole = _json(text)
    if whole is not None:
        return _from_value(whole, depth)
    start = text.find("{")
    if start > 0:  # words with JSON behind them, as when one server quotes another
        found = _from_value(_json(text[start:]), depth)
        if found.message:
            return found
    return Refusal("" if text.lstrip().startswith("<") else text)  # a proxy's HTML is not words


def _json(text: str) -> object:
    try:
        return parse(_any, text)
    except ValueError:
        return None


def _from_value(value: object, depth: int) -> Refusal:
    """Follow `error` and `message` inwards; what is no string and no object says nothing."""
    if isinstance(value, str):
        return _read(value, depth - 1) if depth and "{" in value else Refusal(value)
    if not isinstance(value, dict) or not depth:
        return Refusal()
    inner = value.get("error")
    if inner:
        return _from_value(inner, depth - 1)
    found = _from_value(value.get("message") or value.get("detail"), depth - 1)
    return Refusal(
        found.message,
        found.type or str(value.get("type") or value.get("code") or ""),
        found.needed or _count(value.get("n_prompt_tokens")),
        found.available or _count(value.get("n_ctx")),
    )


def _count(value: object) -> int:
    return value if type(value) is int and 0 < value < _COUNT_MAX else 0
