"""Verdicts on a refusal that are the same whichever backend words it.

First of all which refusals are the request's own fault. Ollama and llama.cpp answer several of
these with 500. Taken at its word, one client's bad schema would eject every backend in turn.
"""

import re

from arriero.wire.dialect import Failure, FailureKind
from arriero.wire.refusal import Refusal, clean

_CONTEXT_TYPE = "exceed_context_size_error"  # llama.cpp
_CONTEXT = (
    "exceeds the context length",  # Ollama, /api/embed with truncate: false
    "exceeds maximum context length",
    "longer than the context length",  # Ollama, /api/chat with shift: false
    "exceeds the available context",  # llama.cpp
    "exceed the available context",
    "maximum context length is",  # vLLM and OpenAI
    "longer than the maximum model length",  # vLLM
    "input is too large to process",  # llama.cpp embeddings: larger than the physical batch
)

CONTEXT_EXCEEDED = "context_length_exceeded"  # OpenAI's code

# How they say what the prompt needs and what there is.
_FIGURES = (
    re.compile(  # llama.cpp, and Ollama, which hands its words on
        r"request \((?P<needed>\d{1,9}) tokens\) exceeds? the available context size "
        r"\((?P<available>\d{1,9}) tokens\)"
    ),
    re.compile(
        r": (?P<needed>\d{1,9}) tokens, (?P<available>\d{1,9}) fit"
    ),  # arriero's own servers
    re.compile(  # vLLM
        r"maximum context length is (?P<available>\d{1,9}) tokens\. "
        r"However, (?:you requested|your request has) (?P<needed>\d{1,9}) "
    ),
)

# What the refusal contains, the parameter at fault, and our words ("" keeps the backend's).
_RULES: tuple[tuple[str, str, str], ...] = (
    ("does not support tools", "tools", "This model does not support tools."),
    ("tools param requires --jinja", "tools", "This model does not support tools."),
    ("does not support thinking", "reasoning_effort", "This model does not support thinking."),
    ("think value", "reasoning_effort", "This model does not support that level of thinking."),
    ("does not support chat", "model", "This model does not support chat."),
    ("does not support generate", "model", "This model does not support text generation."),
    ("does not support completion", "model", "This model does not support text generation."),
    ("does not support insert", "suffix", "This model does not support a suffix."),
    ("does not support embedding", "model", "This model does not support embeddings."),
    ("does not support image", "messages", "This model does not support images."),
    ("does not support vision", "messages", "This model does not support images."),
    ("missing data required for image input", "messages", "This model does not support images."),
    ("image input is not supported", "messages", "This model does not support images."),
    ("not a multimodal model", "messages", "This model does not support images."),
    ("image: unknown format", "messages", "An image is in a format that cannot be read."),
    ("failed to decode image", "messages", "An image is in a format that cannot be read."),
    ("failed to load image", "messages", "An image is in a format that cannot be read."),
    ("invalid format:", "response_format", "The response format is not a valid JSON schema."),
    ("json schema", "response_format", ""),
    ("failed to parse grammar", "response_format", "The JSON schema cannot be made a grammar."),
    ("must be of type", "options", ""),
    ("cannot continue an assistant message", "messages", ""),
    ("assistant response prefill is incompatible", "messages", ""),
)


def client_fault(refusal: Refusal) -> Failure | None:
    """Return the failure if the words name one of the client's faults, else None."""
    text = refusal.message.lower()
    if refusal.type == _CONTEXT_TYPE or any(words in text for words in _CONTEXT):
        return context_exceeded(*_figures(refusal))
    for words, param, ours in _RULES:
        if words in text:
            return Failure(FailureKind.CLIENT, ours or clean(refusal.message), 400, param)
    return None


def _figures(refusal: Refusal) -> tuple[int, int]:
    """Return needed and available tokens; 0 is not told."""
    if refusal.needed and refusal.available:
        return refusal.needed, refusal.available
    for pattern in _FIGURES:
        found = pattern.search(refusal.message)
        if found:
            return int(found["needed"]), int(found["available"])
    return 0, 0


def context_exceeded(needed: int = 0, available: int = 0) -> Failure:
    """Return the failure of a prompt that does not fit."""
    return Failure(
        FailureKind.CLIENT,
        "The input is longer than the model's context.",
        400,
        "messages",
        CONTEXT_EXCEEDED,
        needed,
        available,
    )


def refused(refusal: Refusal, status: int = 400) -> Failure:
    """Return a client's failure in the backend's own words."""
    message = clean(refusal.message) or "The backend refused the request."
    return Failure(FailureKind.CLIENT, message, status)


def busy(refusal: Refusal) -> Failure:
    """Return the failure of a backend that is full or not ready yet."""
    return Failure(FailureKind.BUSY, clean(refusal.message) or "the backend is busy", 503)


def broken(refusal: Refusal) -> Failure:
    """Return a backend's own failure."""
    return Failure(FailureKind.BROKEN, clean(refusal.message) or "the backend failed")
