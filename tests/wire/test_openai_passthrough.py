"""Streams passed through as bytes: whole events, the alias's name, usage kept back."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.wire import openai_passthrough
from arriero.wire.canonical import Usage
from arriero.wire.openai_passthrough import Passthrough

Cut = Callable[[bytes, list[int]], list[bytes]]


def event(rest: str, model: str = "/models/qwen.gguf", space: str = "") -> bytes:
    return f'data: {{"id":"c","model":{space}"{model}",{rest}}}\n\n'.encode()


def text(words: str, model: str = "/models/qwen.gguf") -> bytes:
    return event(f'"choices":[{{"delta":{{"content":"{words}"}},"finish_reason":null}}]', model)


def finish(model: str = "/models/qwen.gguf") -> bytes:
    return event('"choices":[{"delta":{},"finish_reason":"stop"}]', model)


def usage(model: str = "/models/qwen.gguf") -> bytes:
    return event('"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}', model)


DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"boom","code":500}}\n\n'


def make(*, include_usage: bool = False) -> Passthrough:
    return Passthrough("my-model", include_usage=include_usage)


def ends_whole(sent: bytes) -> bool:
    """Say whether an error event could follow what was sent."""
    return sent.endswith(b"\n\n") or not sent.strip(b"\n")


def test_events_pass_with_the_aliass_name() -> None:
    relay = make()
    assert relay.feed(text("a")) == text("a", "my-model")
    assert relay.feed(text("b") + text("c")) == text("b", "my-model") + text("c", "my-model")
    assert relay.chunks == 3
    assert not relay.finished


def test_an_event_is_held_until_it_is_whole() -> None:
    relay = make()
    relay.feed(text("a"))
    sent = text("b", "my-model")
    half = len(text("b")) // 2
    assert relay.feed(text("b")[:half]) == b""
    assert relay.feed(text("b")[half:-1]) == b""
    assert relay.feed(b"\n" + text("c")[:5]) == sent
    assert relay.feed(text("c")[5:]) == text("c", "my-model")


@pytest.mark.parametrize("include_usage", [False, True])
def test_usage_is_read_and_kept_from_who_did_not_ask(*, include_usage: bool) -> None:
    relay = make(include_usage=include_usage)
    sent = relay.feed(text("a")) + relay.feed(finish()) + relay.feed(usage()) + relay.feed(DONE)
    told = usage("my-model") if include_usage else b""
    assert sent == text("a", "my-model") + finish("my-model") + told + DONE
    assert relay.usage == Usage(3, 2)
    assert relay.finish_reason == "stop"
    assert relay.finished
    assert relay.chunks == 2


def test_usage_beside_the_finish_reason_is_read_and_stays() -> None:
    relay = make()
    both = '"choices":[{"delta":{},"finish_reason":"length"}],"usage":{"prompt_tokens":3}'
    assert relay.feed(event(both)) == event(both, "my-model")
    assert relay.usage == Usage(3)
    assert relay.finish_reason == "length"


def test_json_with_spaces() -> None:
    relay = make()
    stream = (
        event('"choices": [{"delta": {"content": "a"}, "finish_reason": null}]', space=" ")
        + event('"choices": [{"delta": {}, "finish_reason": "stop"}]', space=" ")
        + event('"choices": [], "usage": {"prompt_tokens": 3}', space=" ")
        + DONE
    )
    sent = b"".join(relay.feed(part + b"\n\n") for part in stream.split(b"\n\n")[:-1])
    assert sent.count(b'"model": "my-model"') == 2
    assert b"qwen" not in sent
    assert (relay.usage, relay.finish_reason, relay.finished) == (Usage(3), "stop", True)


def test_an_error_event_is_not_sent_on_nor_anything_after_it() -> None:
    relay = make()
    assert relay.feed(text("a") + ERROR + text("b")) == text("a", "my-model")
    assert relay.error == "boom"
    assert relay.feed(text("c") + DONE) == b""
    assert not relay.finished


def test_an_error_later_and_alone() -> None:
    relay = make()
    relay.feed(text("a"))
    assert relay.feed(ERROR) == b""
    assert relay.error == "boom"


@pytest.mark.parametrize("prepare", [b"", text("a")])
def test_an_end_without_a_finish_reason_is_no_end(prepare: bytes) -> None:
    relay = make()
    relay.feed(prepare)
    with pytest.raises(ValueError, match="without a finish reason"):
        relay.feed(DONE)
    assert not relay.finished


def test_words_of_the_model_are_never_taken_for_fields() -> None:
    words = (
        r"[DONE] \"error\" \"usage\":{ \"finish_reason\":\"stop\" \"model\":\"/models/qwen.gguf\""
    )
    relay = make()
    relay.feed(text("a"))
    assert relay.feed(text(words)) == text(words, "my-model")
    assert (relay.error, relay.usage, relay.finish_reason) == (None, None, None)
    assert not relay.finished


def test_comments_pass_and_carriage_returns_do_not() -> None:
    relay = make()
    assert relay.feed(b": ping\r\n\r\n") == b": ping\n\n"
    assert relay.feed(text("a").replace(b"\n", b"\r\n")) == text("a", "my-model")


def test_the_alias_is_written_as_json() -> None:
    relay = Passthrough('a "b"', include_usage=False)
    assert b'"model":"a \\"b\\""' in relay.feed(text("x"))


@given(
    places=st.lists(st.integers(0, 10_000)),
    newline=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    include_usage=st.booleans(),
)
def test_splitting_anywhere_changes_nothing(
    *, cut: Cut, places: list[int], newline: bytes, include_usage: bool
) -> None:
    told = usage("my-model") if include_usage else b""
    stream = b": ping\n\n" + text("Grüß") + b"\n" + text("🦙 [DONE]") + finish() + usage() + DONE
    relay = make(include_usage=include_usage)
    sent = b""
    for part in cut(stream.replace(b"\n", newline), places):
        sent += relay.feed(part)
        assert ends_whole(sent)
    assert sent == (
        b": ping\n\n"
        + text("Grüß", "my-model")
        + b"\n"
        + text("🦙 [DONE]", "my-model")
        + finish("my-model")
        + told
        + DONE
    )
    assert (relay.usage, relay.chunks, relay.finished) == (Usage(3, 2), 3, True)


@given(st.lists(st.integers(0, 10_000)))
def test_an_error_is_found_however_it_comes(cut: Cut, places: list[int]) -> None:
    relay = make()
    stream = text("a") + ERROR + DONE
    assert b"".join(relay.feed(part) for part in cut(stream, places)) == text("a", "my-model")
    assert relay.error == "boom"


FRAGMENTS = st.sampled_from(
    [b"data: ", b"\n\n", b"\n", b"\r", b"{", b"}", b'"error"', b'"usage":{', b"[DONE]", b":", b'"',
     b'"model":"x"', b'"finish_reason":"', b"\xff", text("a"), finish(), usage()]
)  # fmt: skip


@given(st.lists(FRAGMENTS | st.binary(max_size=4)))
def test_arbitrary_bytes_pass_or_are_a_value_error(parts: list[bytes]) -> None:
    relay = make()
    sent = b""
    try:
        for part in parts:
            sent += relay.feed(part)
            assert ends_whole(sent)
    except ValueError:
        return


def test_events_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = len(text("a")) - 2
    monkeypatch.setattr(openai_passthrough, "EVENT_BYTES_MAX", limit)
    assert make().feed(text("a")) == text("a", "my-model")
    for parts in ([text("ab")], [text("ab")[:-1], b"\n"], [text("a") + text("ab")]):
        relay = make()
        with pytest.raises(ValueError, match="longer than"):
            [relay.feed(part) for part in parts]
    relay = make()
    with pytest.raises(ValueError, match="longer than"):
        relay.feed(b"x" * (limit + 2))
