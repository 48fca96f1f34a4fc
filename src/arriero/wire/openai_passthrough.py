"""Streams between a client and a backend that both speak OpenAI's chat: bytes pass unread.

Only whole events are sent on, so that an error event of the gateway's own can follow a stream that
broke off. The alias stands in for the backend's name of the model, and the usage event, which the
gateway asks for on its own account, is kept from clients that did not ask.

Looking for `"usage"` and the like in the bytes is exact: within a JSON string these quotes are
escaped, so that no words of a model can look like them.
"""

import re

import msgspec

from arriero.wire.canonical import Usage
from arriero.wire.openai_backend_answer import EVENT_BYTES_MAX
from arriero.wire.openai_backend_event import (
    Event,
    canonical_usage,
    decode_event,
    event_error,
)
from arriero.wire.sse import NewlineNormalizer, event_data

_MODEL = re.compile(rb'"model":( ?)"((?:[^"\\]|\\.)*)"')
_FINISH = b'"finish_reason":"'
_FINISH_SPACED = b'"finish_reason": "'
_MARKS = (b'"usage":{', b'"usage": {', _FINISH, _FINISH_SPACED, b'"error"', b"[DONE]")


class Passthrough:
    """Relay one streamed answer, split anywhere.

    `finished` is set by `[DONE]` after a finish reason, and `[DONE]` is sent on. `usage`,
    `finish_reason` and `error` are read on the way; an error event is not sent on, nor is anything
    after it, because the client is owed the gateway's own. `chunks` counts the pieces of answer
    sent on, about one for each token. Raises ValueError on what is no such stream; the object is
    then spent.
    """

    __slots__ = (
        "_alias", "_closed", "_finish_mark", "_held", "_include_usage", "_model_new", "_model_old",
        "_newlines", "_searched", "chunks", "error", "finish_reason", "finished", "usage",
    )  # fmt: skip

    def __init__(self, alias: str, *, include_usage: bool) -> None:
        self._alias = msgspec.json.encode(alias)
        self._include_usage = include_usage
        self._newlines = NewlineNormalizer()
        self._held = bytearray()  # the event that has not ended yet
        self._searched = 0
        self._closed = False
        # Learned from the first event that names its model: llama.cpp may answer with a file's
        # path, whatever name it was asked for. Until then every event is looked at.
        self._model_old = b""
        self._model_new = b""
        self._finish_mark = _FINISH
        self.finished = False
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.error: str | None = None
        self.chunks = 0

    def feed(self, data: bytes) -> bytes:
        """Return what to send on: whole events, or nothing yet."""
        if self._closed:
            return b""
        # `find` and not `in` throughout: for bytes it takes half the time.
        if self._newlines.after_cr or data.find(b"\r") >= 0:
            data = self._newlines.feed(data)
        if self._held:
            self._held += data
            if self._held.find(b"\n\n", max(self._searched - 1, 0)) < 0:
                return self._wait()
            data = bytes(self._held)
            self._held.clear()
        end = data.rfind(b"\n\n") + 2
        if end != len(data) or end == 1:  # 1: there is no blank line
            data = self._hold(data, end)
        # Until the finish reason there are pieces of text, and perhaps an error, and nothing else;
        # after it come usage and the end.
        if (
            data.find(self._finish_mark) >= 0
            or data.find(b'"error"') >= 0
            or not self._model_old
            or self.finish_reason is not None
            or data.endswith(b"[DONE]\n\n")
            or len(data) > EVENT_BYTES_MAX
        ):
            return self._by_event(data)
        self.chunks += data.count(b'"delta"')
        return data.replace(self._model_old, self._model_new)

    def _wait(self) -> bytes:
        self._searched = len(self._held)
        # The last byte may be the first half of the blank line, and no part of the event.
        if self._searched > EVENT_BYTES_MAX + 1:
            raise ValueError(f"an event is longer than {EVENT_BYTES_MAX} bytes")
        return b""

    def _hold(self, data: bytes, end: int) -> bytes:
        """Hold what follows the last whole event of `data`, and return what comes before it.

        Line ends between events belong to none and are not waited for.
        """
        if end == 1:
            end = len(data) - len(data.lstrip(b"\n"))
        self._held += data[end:]
        self._wait()
        return data[:end]

    def _by_event(self, data: bytes) -> bytes:
        """Return what to send on of whole events, having looked at each."""
        blocks = data.split(b"\n\n")
        line_end = blocks.pop()
        kept = []
        for block in blocks:
            if len(block) > EVENT_BYTES_MAX:
                raise ValueError(f"an event is longer than {EVENT_BYTES_MAX} bytes")
            if not self._closed and self._keeps(block):
                self.chunks += block.count(b'"delta"')
                kept.append(block.replace(self._model_old, self._model_new) + b"\n\n")
        return b"".join(kept) + (b"" if self._closed else line_end)

    def _keeps(self, block: bytes) -> bool:
        """Take in what the event says beside its text, and say whether the client gets it."""
        if not self._model_old:
            self._learn_model(block)
        if not any(mark in block for mark in _MARKS):
            return True
        payload = event_data(block)
        if payload is None:
            return True
        if payload == b"[DONE]":
            if self.finish_reason is None:
                raise ValueError("the answer ends without a finish reason")
            self.finished = self._closed = True
            return True
        return self._takes(decode_event(payload))

    def _takes(self, event: Event) -> bool:
        self.error = event_error(event)
        if self.error is not None:
            self._closed = True
            return False
        if event.choices and event.choices[0].finish_reason is not None:
            self.finish_reason = event.choices[0].finish_reason
        if event.usage is None:
            return True
        self.usage = canonical_usage(event.usage, event.timings)
        return bool(event.choices) or self._include_usage

    def _learn_model(self, block: bytes) -> None:
        found = _MODEL.search(block)
        if found is not None:
            self._model_old = found[0]
            self._model_new = b'"model":' + found[1] + self._alias
            self._finish_mark = _FINISH_SPACED if found[1] else _FINISH
