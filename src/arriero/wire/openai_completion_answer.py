"""Answers to (legacy) completions in OpenAI's form, whole and streamed."""

import msgspec

from arriero.base.errors import GatewayError
from arriero.wire.canonical import Chunk, FinishReason, Usage
from arriero.wire.openai_chat_answer import usage_fields
from arriero.wire.openai_errors import error_body
from arriero.wire.openai_json import DONE, event, json_text, raw_text


class _Alternative(msgspec.Struct):
    token: str
    logprob: float


class _Token(msgspec.Struct):
    """One token of chat's `logprobs.content`, of which completions have an older form."""

    token: str
    logprob: float | None
    top_logprobs: list[_Alternative] = []


_TOKENS: msgspec.json.Decoder[list[_Token]] = msgspec.json.Decoder(list[_Token])


class CompletionAnswer:
    """Write one completion: `AnswerEncoder` for OpenAI's completions.

    `echo` is the prompt when the client asked to have it put before the answer. The form has no
    room for thinking, which is left out, nor for tool calls, which cannot occur.
    """

    __slots__ = ("_echo", "_head", "_identity", "_include_usage", "_offset", "_tail", "_text_tail")

    def __init__(
        self,
        answer_id: str,
        created: int,
        model_alias: str,
        *,
        include_usage: bool,
        echo: str = "",
    ) -> None:
        self._identity = (
            b'{"id":%b,"object":"text_completion","created":%d,"model":%b,"choices":'
            % (
                json_text(f"cmpl-{answer_id}"),
                created,
                json_text(model_alias),
            )
        )
        usage = b',"usage":null' if include_usage else b""
        self._head = b"data: " + self._identity + b'[{"index":0,"text":'
        self._tail = b"}]" + usage + b"}\n\n"
        self._text_tail = b',"logprobs":null,"finish_reason":null' + self._tail
        self._include_usage = include_usage
        self._echo = echo
        self._offset = 0

    def chunk(self, chunk: Chunk) -> bytes:
        """Return the stream events for a chunk, possibly none (b"")."""
        if (
            chunk.content
            and not self._echo
            and chunk.logprobs is None
            and chunk.finish_reason is None
            and chunk.usage is None
        ):
            return self._head + json_text(chunk.content) + self._text_tail
        return self._any_chunk(chunk)

    def whole(self, chunk: Chunk) -> bytes:
        """Return the body of a response that is not streamed."""
        choice = {
            "index": 0,
            "text": raw_text(self._with_echo(chunk.content)),
            "logprobs": self._logprobs(chunk.logprobs),
            "finish_reason": _reason(chunk.finish_reason or "stop"),
        }
        choices, usage = msgspec.json.encode([choice]), usage_fields(chunk.usage)
        return b'%b%b,"usage":%b}' % (self._identity, choices, msgspec.json.encode(usage))

    def error(self, error: GatewayError, request_id: str) -> bytes:
        """Return the stream event that tells of a failure; nothing may follow it."""
        return event(error_body(error, request_id))

    def end(self) -> bytes:
        """Return what closes a stream that went well."""
        return DONE

    def _any_chunk(self, chunk: Chunk) -> bytes:
        ends = chunk.finish_reason is not None
        text = self._with_echo(chunk.content) if chunk.content or ends else ""
        events = []
        if text or ends or chunk.logprobs is not None:
            reason = (
                b"null" if chunk.finish_reason is None else json_text(_reason(chunk.finish_reason))
            )
            logprobs = msgspec.json.encode(self._logprobs(chunk.logprobs))
            ending = b',"logprobs":%b,"finish_reason":%b' % (logprobs, reason)
            events.append(self._head + json_text(text) + ending + self._tail)
        if chunk.usage is not None and self._include_usage:
            events.append(self._usage(chunk.usage))
        return b"".join(events)

    def _usage(self, usage: Usage) -> bytes:
        fields = msgspec.json.encode(usage_fields(usage))
        return event(b'%b[],"usage":%b}' % (self._identity, fields))

    def _with_echo(self, text: str) -> str:
        echo, self._echo = self._echo, ""
        return echo + text

    def _logprobs(self, raw: msgspec.Raw | None) -> dict[str, object] | None:
        """Return four lists in step with each other; offsets run over the whole stream."""
        if raw is None:
            return None
        try:
            tokens = _TOKENS.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None  # a backend's odd shape costs its probabilities, not the whole answer
        offsets = []
        for one in tokens:
            offsets.append(self._offset)
            self._offset += len(one.token)
        return {
            "tokens": [raw_text(one.token) for one in tokens],
            "token_logprobs": [one.logprob for one in tokens],
            "top_logprobs": [_alternatives(one) for one in tokens],
            "text_offset": offsets,
        }


def _alternatives(token: _Token) -> dict[str, float]:
    return {one.token: one.logprob for one in token.top_logprobs}


def _reason(reason: FinishReason) -> FinishReason:
    return "stop" if reason == "tool_calls" else reason
