"""Event streams by the standard's rules, however the bytes come."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.wire.sse import BlockSplitter, EventSplitter, NewlineNormalizer, event_data

Cut = Callable[[bytes, list[int]], list[bytes]]


def read(parts: list[bytes], limit: int = 1000) -> list[bytes]:
    splitter = EventSplitter(limit)
    return [event for part in parts for event in splitter.feed(part)]


def reference(data: bytes) -> list[bytes]:
    """The standard's rules, line by line and all at once."""
    text = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events: list[bytes] = []
    values: list[bytes] = []
    for line in text.split(b"\n")[:-1]:
        if not line:
            if values:
                events.append(b"\n".join(values))
            values = []
        elif line.split(b":")[0] == b"data":
            value = line[5:]
            values.append(value[1:] if value[:1] == b" " else value)
    return events


STREAMS = st.lists(
    st.sampled_from(
        [b"data", b":", b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"x", b"id: 1", b"data: y"]
    )
).map(b"".join)


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data\n\n", [b""]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", [b"a", b"b", b"c"]),
        (b": ping\n\ndata: a\n\n", [b"a"]),
        (b"event: x\nid: 7\nretry: 5\ndata: a\n\n", [b"a"]),
        (b"\n\n\ndata: a\n\n\n\n", [b"a"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"dataset: a\n\n", []),
        (b"data: a\n", []),
    ],
)
def test_the_standards_rules(stream: bytes, events: list[bytes]) -> None:
    assert read([stream]) == events
    assert read([stream[i : i + 1] for i in range(len(stream))]) == events


@given(STREAMS, st.lists(st.integers(0, 10_000)))
def test_splitting_anywhere_changes_nothing(cut: Cut, stream: bytes, places: list[int]) -> None:
    assert read(cut(stream, places)) == reference(stream)


@given(st.binary(), st.lists(st.integers(0, 10_000)))
def test_line_ends_become_one_kind(cut: Cut, stream: bytes, places: list[int]) -> None:
    normalizer = NewlineNormalizer()
    text = b"".join(normalizer.feed(part) for part in cut(stream, places))
    assert text == stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


@pytest.mark.parametrize("length", [9, 10])
def test_an_event_up_to_the_limit_passes(length: int) -> None:
    event = b"x" * length
    for parts in ([event + b"\n\n"], [event, b"\n", b"\n"], [event + b"\n\n" + event, b"\n\n"]):
        splitter = BlockSplitter(10)
        assert b"".join(block for part in parts for block in splitter.feed(part)) in {
            event,
            event * 2,
        }


@given(st.lists(st.integers(0, 10_000)))
def test_an_event_over_the_limit_is_an_error_however_it_comes(cut: Cut, places: list[int]) -> None:
    with pytest.raises(ValueError, match="longer than 10 bytes"):
        read(cut(b"data: a\n\ndata: 12345\n\n", places), 10)


def test_an_event_without_end_is_an_error_before_its_end() -> None:
    with pytest.raises(ValueError, match="longer than 10 bytes"):
        read([b"x"] * 12, 10)


def test_an_event_without_data_has_none() -> None:
    assert event_data(b": comment\nid: 3") is None
