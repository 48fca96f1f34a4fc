"""NDJSON lines: whole, in order, limited, however the bytes come."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.wire.ndjson import LineSplitter

Cut = Callable[[bytes, list[int]], list[bytes]]


def read(parts: list[bytes], limit: int = 1000) -> list[bytes]:
    splitter = LineSplitter(limit)
    return [line for part in parts for line in splitter.feed(part)]


def test_whole_lines_come_out_and_the_rest_waits() -> None:
    splitter = LineSplitter(100)
    assert splitter.feed(b"a\nb\nc") == [b"a", b"b"]
    assert splitter.feed(b"d") == []
    assert splitter.feed(b"\n") == [b"cd"]
    assert splitter.feed(b"\n\n") == [b"", b""]


@given(st.lists(st.binary(max_size=8)), st.lists(st.integers(0, 10_000)))
def test_splitting_anywhere_changes_nothing(
    cut: Cut, lines: list[bytes], places: list[int]
) -> None:
    data = b"\n".join(lines)
    assert read(cut(data, places)) == data.split(b"\n")[:-1]


@pytest.mark.parametrize("length", [9, 10])
def test_a_line_up_to_the_limit_passes(length: int) -> None:
    line = b"x" * length
    assert read([line + b"\n"], 10) == [line]
    assert read([line[:4], line[4:], b"\n"], 10) == [line]
    assert read([line + b"\n" + line + b"\n"], 10) == [line, line]


@given(st.lists(st.integers(0, 10_000)))
def test_a_line_over_the_limit_is_an_error_however_it_comes(cut: Cut, places: list[int]) -> None:
    with pytest.raises(ValueError, match="longer than 10 bytes"):
        read(cut(b"ab\n" + b"x" * 11 + b"\ncd\n", places), 10)


def test_a_line_without_end_is_an_error_before_its_end() -> None:
    with pytest.raises(ValueError, match="longer than 10 bytes"):
        read([b"x"] * 11, 10)


def test_the_limit_holds_for_each_line_anew() -> None:
    assert read([b"x" * 9, b"\n" + b"y" * 9, b"\n"], 10) == [b"x" * 9, b"y" * 9]
