"""What a stream that was passed on unread has told its client, read afterwards.

A stream is hardly ever broken, so its events are only packed away. Nearly all of an event is the
same as in the one before it, which makes packing quicker than reading, and small.
"""

import zlib

import msgspec

from arriero.wire.canonical import Chunk, FinishReason, ToolCall
from arriero.wire.openai_backend_event import CallFragment
from arriero.wire.sse import event_data

BATCH_BYTES = 16_384
PACKED_BYTES_MAX = 1_000_000  # of one stream; what comes after is not kept

_ABSENT = msgspec.Raw(b"")
_NOTHING = frozenset({b"", b"null"})
_CALL = [ToolCall("", "", "")]  # that there was a call is all that matters


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[CallFragment] | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta | None = None
    finish_reason: str | None = None
    logprobs: msgspec.Raw = _ABSENT


class _Sent(msgspec.Struct, gc=False):
    id: str = ""
    created: int = 0
    choices: list[_Choice] = []


_event = msgspec.json.Decoder(_Sent)


class SentEvents:
    """The whole events of one stream, as they were sent on."""

    __slots__ = ("_bytes", "_packed", "_packed_bytes", "_unpacked", "full")

    def __init__(self) -> None:
        self._unpacked: list[bytes] = []
        self._bytes = 0
        self._packed: list[bytes] = []
        self._packed_bytes = 0
        self.full = False  # not all of it was kept

    def add(self, events: bytes) -> None:
        """Keep what is sent."""
        self._unpacked.append(events)
        self._bytes += len(events)
        if self._bytes > BATCH_BYTES:
            self._pack()

    def read(self) -> tuple[list[Chunk], str, int]:
        """Return the stream as chunks, and the id and time that its events bear.

        Pieces that say nothing make no chunk. Raises ValueError on what no client could read.
        """
        packed = b"".join([zlib.decompress(batch) for batch in self._packed])
        sent = _decode(packed + b"".join(self._unpacked))
        chunks = [chunk for event in sent if event.choices and (chunk := _chunk(event.choices[0]))]
        first = next((event for event in sent if event.id), _Sent())
        return chunks, first.id, first.created

    def _pack(self) -> None:
        batch = zlib.compress(b"".join(self._unpacked), 1)
        self._unpacked.clear()
        self._bytes = 0
        self._packed_bytes += len(batch)
        if self._packed_bytes > PACKED_BYTES_MAX:
            self.full = True
            self._packed.clear()
        else:
            self._packed.append(batch)


def _decode(events: bytes) -> list[_Sent]:
    lines = events.replace(b"\n\ndata: ", b"\n").removeprefix(b"data: ")
    try:
        return _event.decode_lines(lines)
    except msgspec.DecodeError:  # comments, other fields, the end: one by one
        payloads = [event_data(block) for block in events.split(b"\n\n")]
        return [_event.decode(payload) for payload in payloads if payload and payload != b"[DONE]"]


def _chunk(choice: _Choice) -> Chunk | None:
    delta = choice.delta or _Delta()
    probable = bytes(choice.logprobs) not in _NOTHING
    thinking = delta.reasoning_content or delta.reasoning or ""
    if not (delta.content or thinking or delta.tool_calls or choice.finish_reason or probable):
        return None
    reason: FinishReason | None = None if choice.finish_reason is None else "stop"
    return Chunk(
        delta.content or "",
        thinking,
        _CALL if delta.tool_calls else [],
        choice.logprobs if probable else None,
        reason,
    )
