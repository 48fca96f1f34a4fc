"""Answers to chat completions in OpenAI's form, whole and streamed."""

from functools import lru_cache

import msgspec

from arriero.base.errors import GatewayError
from arriero.wire.canonical import Chunk, FinishReason, ToolCall, Usage
from arriero.wire.openai_errors import error_body
from arriero.wire.openai_json import DONE, event, json_text, one_line, raw_text

_NO_USAGE = Usage()
_model_text = lru_cache(1024)(json_text)  # of aliases, which are as many as are configured
_PLAIN = (
    b'{"id":"chatcmpl-%b","object":"chat.completion","created":%d,"model":%b,"choices":[{"index":0,'
    b'"message":{"role":"assistant","content":%b,"refusal":null},"logprobs":null,'
    b'"finish_reason":"%b"}],"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,'
    b'"prompt_tokens_details":{"cached_tokens":%d}}}'
)


def usage_fields(usage: Usage | None) -> dict[str, object]:
    """Return OpenAI's `usage` object."""
    counted = usage or _NO_USAGE
    return {
        "prompt_tokens": counted.prompt_tokens,
        "completion_tokens": counted.completion_tokens,
        "total_tokens": counted.prompt_tokens + counted.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": counted.cached_tokens},
    }


def whole_chat(answer_id: str, created: float, model_alias: str, chunk: Chunk) -> bytes:
    """Return the body of a response that is not streamed; plain text, the common one, in a step."""
    if chunk.thinking or chunk.tool_calls or chunk.logprobs is not None:
        return ChatAnswer(answer_id, int(created), model_alias, include_usage=False).whole(chunk)
    usage = chunk.usage or _NO_USAGE
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    return _PLAIN % (
        answer_id.encode(),
        created,
        _model_text(model_alias),
        json_text(chunk.content),
        (chunk.finish_reason or "stop").encode(),
        prompt,
        completion,
        prompt + completion,
        usage.cached_tokens,
    )


class ChatAnswer:
    """Write one chat answer: `AnswerEncoder` for OpenAI's chat completions.

    Every chunk of a stream bears the same id, time and model, so its constant head and tail are
    built once, at the first chunk; a chunk of plain text costs about 0.3 µs. The role rides on the
    first chunk.
    """

    __slots__ = (
        "_calls", "_created", "_head", "_id", "_include_usage", "_model", "_started", "_tail",
        "_text_head", "_text_tail",
    )  # fmt: skip

    def __init__(
        self, answer_id: str, created: int, model_alias: str, *, include_usage: bool
    ) -> None:
        self._id = answer_id.encode()
        self._created = created
        self._model = _model_text(model_alias)
        self._include_usage = include_usage
        self._started = False
        self._calls = 0

    def _open(self) -> None:
        """Build what all chunks of a stream have in common."""
        start = b"data: " + self._begin(b".chunk")
        # With include_usage OpenAI sends a null usage in every chunk but the last.
        usage = b',"usage":null' if self._include_usage else b""
        self._head = start + b'[{"index":0,"delta":{'
        self._tail = b"}]" + usage + b"}\n\n"
        self._text_head = self._head + b'"content":'
        self._text_tail = b'},"logprobs":null,"finish_reason":null' + self._tail

    def _begin(self, kind: bytes) -> bytes:
        return (
            b'{"id":"chatcmpl-%b","object":"chat.completion%b","created":%d,"model":%b,'
            % (
                self._id,
                kind,
                self._created,
                self._model,
            )
            + b'"choices":'
        )

    def chunk(self, chunk: Chunk) -> bytes:
        """Return the stream events for a chunk, possibly none (b"")."""
        if (
            self._started
            and chunk.content
            and not chunk.thinking
            and not chunk.tool_calls
            and chunk.logprobs is None
            and chunk.finish_reason is None
            and chunk.usage is None
        ):
            return self._text_head + json_text(chunk.content) + self._text_tail
        return self._any_chunk(chunk)

    def whole(self, chunk: Chunk) -> bytes:
        """Return the body of a response that is not streamed, whatever is in it."""
        message: dict[str, object] = {"role": "assistant"}
        only_calls = chunk.tool_calls and not chunk.content
        message["content"] = None if only_calls else raw_text(chunk.content)
        if chunk.thinking:
            message["reasoning_content"] = message["reasoning"] = raw_text(chunk.thinking)
        if chunk.tool_calls:
            message["tool_calls"] = [_call_fields(call) for call in chunk.tool_calls]
        message["refusal"] = None
        self._calls = len(chunk.tool_calls)
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None
            if chunk.logprobs is None
            else {"content": chunk.logprobs, "refusal": None},
            "finish_reason": self._reason(chunk.finish_reason or "stop"),
        }
        choices, usage = msgspec.json.encode([choice]), usage_fields(chunk.usage)
        return b'%b%b,"usage":%b}' % (self._begin(b""), choices, msgspec.json.encode(usage))

    def error(self, error: GatewayError, request_id: str) -> bytes:
        """Return the stream event that tells of a failure after the response began.

        Nothing may follow it: a finish reason or `[DONE]` would make the stream look whole.
        """
        return event(error_body(error, request_id))

    def end(self) -> bytes:
        """Return what closes a stream that went well."""
        return DONE

    def _any_chunk(self, chunk: Chunk) -> bytes:
        if not self._started:
            self._open()
        events = []
        delta = self._delta(chunk)
        if delta:
            logprobs = b"null"
            if chunk.logprobs is not None:
                logprobs = b'{"content":%b,"refusal":null}' % one_line(chunk.logprobs)
            events.append(self._choice(b",".join(delta), logprobs, b"null"))
        if chunk.finish_reason is not None:
            reason = json_text(self._reason(chunk.finish_reason))
            events.append(self._choice(b"", b"null", reason))
        if chunk.usage is not None and self._include_usage:
            events.append(self._usage(chunk.usage))
        return b"".join(events)

    def _delta(self, chunk: Chunk) -> list[bytes]:
        says = chunk.content or chunk.thinking or chunk.tool_calls or chunk.logprobs is not None
        ends = chunk.finish_reason is not None or chunk.usage is not None
        if not says and (self._started or not ends):
            return []
        fields = []
        if not self._started:
            self._started = True
            fields.append(b'"role":"assistant","content":%b' % json_text(chunk.content))
        elif chunk.content or not (chunk.thinking or chunk.tool_calls):
            fields.append(b'"content":%b' % json_text(chunk.content))
        if chunk.thinking:
            text = json_text(chunk.thinking)
            # DeepSeek's name, which LangChain and Open WebUI read, and OpenRouter's, which
            # Ollama, vLLM and gpt-oss clients use.
            fields.append(b'"reasoning_content":%b,"reasoning":%b' % (text, text))
        if chunk.tool_calls:
            calls = [{"index": self._next_call(), **_call_fields(one)} for one in chunk.tool_calls]
            fields.append(b'"tool_calls":%b' % msgspec.json.encode(calls))
        return fields

    def _choice(self, delta: bytes, logprobs: bytes, reason: bytes) -> bytes:
        ending = b'},"logprobs":%b,"finish_reason":%b' % (logprobs, reason)
        return self._head + delta + ending + self._tail

    def _usage(self, usage: Usage) -> bytes:
        fields = msgspec.json.encode(usage_fields(usage))
        return event(b'%b[],"usage":%b}' % (self._begin(b".chunk"), fields))

    def _next_call(self) -> int:
        self._calls += 1
        return self._calls - 1

    def _reason(self, reason: FinishReason) -> FinishReason:
        """Ollama ends with `stop` after tool calls; OpenAI's clients look for `tool_calls`."""
        return "tool_calls" if reason == "stop" and self._calls else reason


def _call_fields(call: ToolCall) -> dict[str, object]:
    function = {"name": raw_text(call.name), "arguments": raw_text(call.arguments)}
    return {"id": raw_text(call.id), "type": "function", "function": function}
