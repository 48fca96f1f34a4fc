"""What was passed on unread is read afterwards: every word of it, whatever stands between."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.wire import openai_sent
from arriero.wire.openai_sent import SentEvents


def event(delta: dict[str, object], reason: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason, **more}
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "m"}
    return b"data: " + json.dumps({**body, "choices": [choice]}).encode() + b"\n\n"


def text_event(text: str) -> bytes:
    return event({"content": text})


def kept(*parts: bytes) -> SentEvents:
    sent = SentEvents()
    for part in parts:
        sent.add(part)
    return sent


def text_of(sent: SentEvents) -> str:
    return "".join(chunk.content for chunk in sent.read()[0])


@given(st.lists(st.text(), max_size=20))
def test_all_text_is_read_back(pieces: list[str]) -> None:
    sent = kept(*map(text_event, pieces))
    chunks, whole_id, created = sent.read()
    assert [chunk.content for chunk in chunks] == [piece for piece in pieces if piece]
    assert (whole_id, created) == (("chatcmpl-1", 7) if pieces else ("", 0))


def test_a_long_stream_is_packed_and_nothing_lost() -> None:
    pieces = [f" word{number}" for number in range(5000)]
    sent = kept(*map(text_event, pieces))
    assert text_of(sent) == "".join(pieces)
    assert text_of(sent) == "".join(pieces), "it can be read twice, and go on"
    sent.add(text_event("!"))
    assert text_of(sent) == "".join(pieces) + "!"
    assert not sent.full


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_sent, "PACKED_BYTES_MAX", 1000)
    sent = kept(*[text_event(f"{number * 7919 % 100003}") for number in range(5000)])
    assert sent.full
    assert len(sent.read()[0]) < 1000


def test_other_things_than_text_are_seen() -> None:
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}
    sent = kept(
        event({"role": "assistant", "content": None}),
        event({"reasoning_content": "hm"}) + event({"reasoning": "so"}),
        event({"tool_calls": [call]}),
        event({}, "tool_calls"),
    )
    chunks = sent.read()[0]
    assert [chunk.thinking for chunk in chunks] == ["hm", "so", "", ""]
    assert [bool(chunk.tool_calls) for chunk in chunks] == [False, False, True, False]
    assert [chunk.finish_reason for chunk in chunks] == [None, None, None, "stop"]


def test_comments_odd_fields_and_the_end_do_no_harm() -> None:
    usage = b'data: {"id":"x","choices":[],"usage":{"prompt_tokens":1}}\n\n'
    sent = kept(
        b": waiting\n\n", b"event: message\n" + text_event("a"), text_event("b"), usage,
        b"data:" + text_event("c").removeprefix(b"data: "), b"data: [DONE]\n\n",
    )  # fmt: skip
    assert text_of(sent) == "abc"


def test_what_is_no_json_is_an_error() -> None:
    with pytest.raises(ValueError, match="truncated"):
        kept(b"data: {\n\n").read()


def test_nothing_sent_is_nothing() -> None:
    assert kept().read() == ([], "", 0)
