"""What a relay remembers of a stream, and what it cannot."""

import pytest

from arriero.core.seam import OpenStops, Seam, Suppressor
from arriero.core.transcript import Transcript
from arriero.server.relay import PassthroughRelay, StreamRelay
from arriero.server.resume import _Joined
from arriero.wire.canonical import Chat, Chunk, Message, Sampling
from arriero.wire.ollama import OLLAMA
from arriero.wire.openai_backend import OPENAI
from arriero.wire.openai_chat_answer import ChatAnswer
from arriero.wire.openai_passthrough import Passthrough
from arriero.wire.openai_sent import SentEvents

CHAT = Chat(model="m", messages=[Message("user", "Hi")], stream=True, sampling=Sampling())
EVENT = (
    b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}\n\n'
)


class Out:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = b""

    def write_stream(self, data: bytes) -> None:
        self.written += data


def line(text: str) -> bytes:
    return b'{"message":{"role":"assistant","content":"%b"},"done":false}\n' % text.encode()


def test_a_relay_remembers_exactly_what_it_sent() -> None:
    answer = ChatAnswer("x", 1, "m", include_usage=False)
    out = Out()
    relay = StreamRelay(OLLAMA.stream_decoder(CHAT), answer, out, OLLAMA.decode_stream_error)
    sent = relay.transcript = Transcript()
    heard: list[bytes] = []
    relay.on_sent = lambda: heard.append(out.written)
    relay.feed(line("One")[:20])
    assert sent.text() == ""
    assert not relay.sent
    relay.feed(line("One")[20:] + line(" two") + line(" three")[:9])
    assert sent.text() == "One two"
    assert heard == [out.written], "told once, and after the first bytes"
    relay.feed(line(" three")[9:])
    assert sent.text() == "One two three"
    assert len(heard) == 1
    assert relay.feed(b"no line\n") is not None
    assert sent.text() == "One two three"


def test_a_passed_on_stream_remembers_its_events() -> None:
    out = Out()
    through = Passthrough("m", include_usage=False)
    relay = PassthroughRelay(through, out, OPENAI.decode_stream_error)
    events = relay.events = SentEvents()
    heard: list[bool] = []
    relay.on_sent = lambda: heard.append(True)
    relay.feed(EVENT + EVENT[:30])
    relay.feed(EVENT[30:])
    chunks, whole_id, created = events.read()
    assert [chunk.content for chunk in chunks] == ["Hi", "Hi"]
    assert (whole_id, created) == ("x", 1)
    assert heard == [True]


def test_nothing_is_remembered_unasked() -> None:
    relay = PassthroughRelay(
        Passthrough("m", include_usage=False), Out(), OPENAI.decode_stream_error
    )
    relay.feed(EVENT)
    assert relay.events is None
    assert relay.sent


@pytest.mark.parametrize("finished", [True, False])
def test_a_joined_stream_is_finished_when_its_backend_says_so(*, finished: bool) -> None:
    seam = Seam(Suppressor("", strict=True), OpenStops("", []), kept=0)
    joined = _Joined(OLLAMA.stream_decoder(CHAT), seam)
    chunks: list[Chunk] = joined.feed(line("Hi"))
    assert chunks[0].content == "Hi"
    if finished:
        joined.feed(b'{"message":{"content":""},"done":true,"done_reason":"stop"}\n')
    assert joined.finished is finished
