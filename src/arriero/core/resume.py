"""Which broken streams may go on elsewhere, and what is asked for then: pure decisions.

Theory. The client has a text; the backend that wrote it is gone. Another one that has the same
weights, and a template that leaves the assistant's last message open (`prefill`), is asked for the
same conversation with that text as its last message, and writes on. Three things must hold.

The model must read the text as it would have written it. A model does not see characters but
tokens, and a text that was cut in the middle of a word may come apart into other tokens than those
it was written in. Where every draw is the best token (temperature 0) the rest must come out as if
nothing had happened, so there the text is cut back to a *safe* place: between a letter or digit
and the white space behind it. Tokenisers split there, whatever follows. The words behind that
place are told again and swallowed (`seam`). Where tokens are drawn by chance the model would hardly
tell the same words again, so there the whole text is given; it ends where a token ended, because
backends send whole tokens.

The answer must be one text and nothing else. A grammar (JSON, a forced call) would begin anew in
the middle; log probabilities belong to tokens that are not the same any more; behind a tool call
there is nothing to go on with; thoughts have no place of their own in most prompts; and a model
that repeats itself would do so anywhere.

The request must end as it would have ended. What was generated before counts against the limit of
tokens, and into usage.
"""

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

import msgspec

from arriero.config.settings import BackendKind, Model
from arriero.core.prefill import Ending, Prefill
from arriero.core.seam import OpenStops, Seam, Suppressor
from arriero.core.transcript import Transcript
from arriero.wire.canonical import CanonicalRequest, Chat, Completion, Message
from arriero.wire.parsing import parse
from arriero.wire.sampling import Options, put_sampling

RESUMPTIONS_MAX = 2
CUT_CHARS_MAX = 256  # how far back a safe place is looked for
_FREE_CHOICES = frozenset({b'"auto"', b'"none"'})

_NUMBER: msgspec.json.Decoder[float] = msgspec.json.Decoder(float)


class Refusal(Enum):
    """Why a stream cannot be resumed; the value is the reason's name in logs."""

    NOT_TEXT = "format"  # JSON, a grammar, a forced call, log probabilities, a suffix to meet
    LAST_MESSAGE = "last_message"  # the conversation already ends with words that stay closed
    TOOL_CALL = "tool_call"
    THINKING = "thinking"
    LOOPING = "repeats"
    TOO_LONG = "too_long"
    TOO_OFTEN = "too_often"
    UNVERIFIED = "unverified"  # nobody knows whether the template leaves the message open
    CLOSED = "prefill"  # it does not
    AWAY = "away"  # it would be known if the host could be reached
    NOBODY = "no_backend"  # that has the same weights and can be asked


class Plan(NamedTuple):
    """What to ask for, and how to join what comes to what the client has."""

    request: CanonicalRequest
    seam: Seam
    exact: bool  # the text was cut back; if the continuation diverges, the whole text may do


class Seat(NamedTuple):
    """Who would go on: the kind of server, what is known of its template, whether it can think."""

    kind: BackendKind
    prefill: Prefill | None
    thinks: bool = False


class Limits(NamedTuple):
    """What of a request's options matters here, whoever set them."""

    tokens: int | None  # that may be generated; None: no limit
    greedy: bool  # every draw is the best token
    stops: tuple[str, ...]


def limits(request: Chat | Completion, model: Model) -> Limits:
    """Return what holds for a request to an alias: its own word, the client's, the alias's cap."""
    drawn: Options = dict(model.options)
    if model.client_options == "allow":
        drawn.update(request.model_options)
    put_sampling(drawn, request.sampling, "num_predict", model.max_output_tokens)
    tokens = _number(drawn, "num_predict")
    stop = drawn.get("stop")
    return Limits(
        int(tokens) if tokens is not None and tokens > 0 else None,
        _number(drawn, "temperature") == 0 or _number(drawn, "top_k") == 1,
        (stop,) if isinstance(stop, str) else tuple(stop) if isinstance(stop, list | tuple) else (),
    )


def is_text(request: CanonicalRequest) -> bool:
    """Say whether the answer to `request` will be plain text that could be gone on with."""
    if isinstance(request, Completion):
        return not request.suffix and request.logprobs is None
    if not isinstance(request, Chat) or request.format is not None or request.logprobs:
        return False
    choice = request.tool_choice
    return choice is None or not request.tools or bytes(choice) in _FREE_CHOICES


def refusal(request: CanonicalRequest, sent: Transcript, resumptions: int) -> Refusal | None:
    """Return why nobody could go on with this answer, None when somebody may.

    `resumptions` is how often the stream was resumed before.
    """
    text = sent.text()
    reasons = {
        Refusal.NOT_TEXT: not is_text(request),
        Refusal.TOO_OFTEN: resumptions >= RESUMPTIONS_MAX,
        Refusal.TOO_LONG: sent.lost,
        Refusal.TOOL_CALL: sent.called,
        Refusal.THINKING: bool(sent.thoughts) and not text,
        Refusal.LOOPING: sent.loops(),
        Refusal.LAST_MESSAGE: bool(text) and not _extensible(request),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def finished(sent: Transcript, limit: Limits) -> bool:
    """Say whether nothing is missing but the end: all the text that was allowed was sent."""
    return sent.finished or (limit.tokens is not None and sent.pieces >= limit.tokens)


def ending(request: CanonicalRequest, sent: Transcript, seat: Seat) -> Ending | None:
    """Return what would become of the text in the prompt there; None when nobody knows."""
    if isinstance(request, Completion) and seat.kind == "openai":
        return Ending.KEPT  # no template: what follows the prompt's last character is generated
    prefill = seat.prefill
    if prefill is None:
        return None
    if not isinstance(request, Chat):
        return prefill.plain
    if seat.kind == "openai" and _ends_with_answer(request) and not request.continue_final_message:
        return Ending.CLOSED  # vLLM has begun a message of its own behind it, llama.cpp has not
    thinking = bool(sent.thoughts) or (seat.thinks and request.think is not False)
    found = prefill.thinking if thinking else prefill.plain
    return min(found, prefill.tools) if request.tools else found


def continued(
    request: Chat | Completion, sent: Transcript, limit: Limits, seat: Seat, *, exact: bool
) -> Plan | Refusal:
    """Return how to go on there with an answer that is not `finished`.

    `exact` asks for the same words as if nothing had happened, where that can be had.
    """
    text = sent.text()
    exact = exact and limit.greedy
    ends = ending(request, sent, seat) if text else Ending.KEPT
    if ends is None:
        return Refusal.UNVERIFIED
    if ends is Ending.CLOSED:
        return Refusal.CLOSED
    kept = safe_cut(text) if exact else len(text if ends is Ending.KEPT else text.rstrip())
    pieces = sent.pieces - _pieces_behind(sent.tail(), len(text) - kept)
    sampling = request.sampling
    if limit.tokens is not None:
        sampling = msgspec.structs.replace(sampling, max_tokens=limit.tokens - pieces)
    asked = _request(msgspec.structs.replace(request, sampling=sampling), text[:kept], sent, seat)
    seam = Seam(Suppressor(text[kept:], strict=exact), OpenStops(text, limit.stops), pieces)
    return Plan(asked, seam, exact)


def safe_cut(text: str) -> int:
    r"""Return the last place in `text` where every tokeniser splits, whatever follows.

    That is between a letter or digit and white space: words of GPT-like tokenisers begin with
    their space, and SentencePiece has no piece across one. Not behind a punctuation mark, because
    ");\n" may be one token. All of a text that has no such place near its end stays.
    """
    first = max(len(text) - CUT_CHARS_MAX, 0)
    for at in range(len(text) - 1, first, -1):
        if text[at].isspace() and text[at - 1].isalnum():
            return at
    return len(text) if first else 0


def _request(
    request: Chat | Completion, text: str, sent: Transcript, seat: Seat
) -> CanonicalRequest:
    """Return the request with `text` as the beginning of its answer."""
    if not text:
        return request
    if isinstance(request, Completion):
        if seat.kind == "ollama":
            return _as_chat(request, text)
        return msgspec.structs.replace(request, prompt=request.prompt + text)
    messages = list(request.messages)
    if _ends_with_answer(request):
        last = messages.pop()
        messages.append(msgspec.structs.replace(last, content=f"{last.content}{text}"))
    else:
        messages.append(Message("assistant", text, sent.thoughts))
    return msgspec.structs.replace(request, messages=messages, continue_final_message=True)


def _as_chat(request: Completion, text: str) -> Chat:
    """Return the chat that a completion is at Ollama.

    `/api/generate` puts the prompt through the chat's template, and has no place for an answer that
    was begun.
    """
    return Chat(
        model=request.model,
        messages=[Message("user", request.prompt), Message("assistant", text)],
        text_only=True,
        stream=True,
        include_usage=request.include_usage,
        sampling=request.sampling,
        model_options=request.model_options,
        keep_alive=request.keep_alive,
    )


def _ends_with_answer(chat: Chat) -> bool:
    return bool(chat.messages) and chat.messages[-1].role == "assistant"


def _extensible(request: CanonicalRequest) -> bool:
    """Say whether text can be put behind the last message, should that be the assistant's."""
    if not isinstance(request, Chat) or not _ends_with_answer(request):
        return True
    last = request.messages[-1]
    return isinstance(last.content, str) and not last.tool_calls


def _pieces_behind(tail: list[str], chars: int) -> int:
    """Return how many pieces the last `chars` characters are in: they are generated once more."""
    pieces = 0
    for piece in reversed(tail):
        if chars <= 0:
            break
        chars -= len(piece)
        pieces += 1
    return pieces


def _number(drawn: Mapping[str, object], name: str) -> float | None:
    """Return a number among options; a client's own may be unread JSON, or no number at all."""
    value = drawn.get(name)
    if isinstance(value, msgspec.Raw):
        try:
            return parse(_NUMBER, bytes(value))
        except ValueError:
            return None
    return value if isinstance(value, int | float) else None
