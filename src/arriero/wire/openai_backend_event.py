"""The JSON of an answer by a server of OpenAI's API: a stream's event, or the whole body."""

import msgspec

from arriero.wire.canonical import Usage
from arriero.wire.openai_logprobs import Logprobs
from arriero.wire.parsing import Count, parse
from arriero.wire.refusal import error_text

# msgspec cannot decode into `Raw | None`, so an absent field is an empty Raw, and null says "null".
_ABSENT = msgspec.Raw(b"")
_NOTHING = frozenset({b"", b"null"})


class Function(msgspec.Struct, gc=False):
    """A called function, or a fragment of it; some servers send the arguments as an object."""

    name: str | None = None
    arguments: str | dict[str, object] | None = None


class CallFragment(msgspec.Struct, gc=False):
    """A tool call, or a fragment of one in a stream."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Message(msgspec.Struct, gc=False):
    """A stream's delta or a whole message. `reasoning` is vLLM's name, the longer llama.cpp's."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[CallFragment] | None = None


class Choice(msgspec.Struct, gc=False):
    """One of the answers, or its next piece; `text` is that of `/v1/completions`."""

    delta: Message | None = None
    message: Message | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class _PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: Count | None = None


class UsageBody(msgspec.Struct, gc=False):
    """Token counts."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: _PromptDetails | None = None


class Timings(msgspec.Struct, gc=False):
    """How long llama.cpp read and wrote; it stands beside the usage."""

    prompt_ms: float | None = None
    predicted_ms: float | None = None


class Event(msgspec.Struct, gc=False):
    """One event, or one body."""

    choices: list[Choice] | None = None
    usage: UsageBody | None = None
    timings: Timings | None = None
    error: msgspec.Raw = _ABSENT


_event = msgspec.json.Decoder(Event)


def decode_event(payload: bytes) -> Event:
    """Return the event. Raises ValueError on what is none."""
    return parse(_event, payload)


def event_error(event: Event) -> str | None:
    """Return the words of the event's error, None when it has none."""
    error = bytes(event.error)
    return None if error in _NOTHING else error_text(error)


def canonical_usage(usage: UsageBody | None, timings: Timings | None = None) -> Usage:
    """Return the counts; what the server leaves out counts as zero.

    llama.cpp always tells how much of a prompt was in its cache. vLLM does with the option
    `--enable-prompt-tokens-details`, unless that was nothing.
    """
    if usage is None:
        return Usage()
    details = usage.prompt_tokens_details
    cached = details.cached_tokens if details is not None else None
    took = timings or Timings()
    return Usage(
        usage.prompt_tokens or 0,
        usage.completion_tokens or 0,
        cached or 0,
        (took.prompt_ms or 0.0) / 1000,
        (took.predicted_ms or 0.0) / 1000,
        cached is not None,
    )
