"""What the gateway writes of HTTP, and the rules that the parser leaves to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.base.errors import AmbiguousRequest, ExpectationFailed, GatewayError
from arriero.wire.http import (
    LAST_CHUNK,
    check_head,
    chunked,
    expects_continue,
    status_line,
)

HOST = {b"host": b"gateway"}


def statuses(kind: type[GatewayError]) -> set[int]:
    return {kind.status}.union(*(statuses(child) for child in kind.__subclasses__()))


@pytest.mark.parametrize("status", sorted({200, 503} | statuses(GatewayError)))
def test_every_status_we_send_has_its_phrase(status: int) -> None:
    line = status_line(status)
    start, phrase = f"HTTP/1.1 {status} ".encode(), line[13:-2]
    assert line.startswith(start)
    assert line.endswith(b"\r\n")
    assert phrase.isascii()
    assert phrase


def test_another_status_has_an_empty_phrase() -> None:
    """The blank after the status stays (RFC 9112, 4)."""
    assert status_line(299) == b"HTTP/1.1 299 \r\n"


@given(parts=st.lists(st.binary(min_size=1, max_size=70_000), max_size=5))
def test_chunks_are_read_as_they_were_written(parts: list[bytes]) -> None:
    coded = b"".join(chunked(part) for part in parts) + LAST_CHUNK
    read = []
    while True:
        size, _, coded = coded.partition(b"\r\n")
        if not int(size, 16):
            break
        read.append(coded[: int(size, 16)])
        assert coded[int(size, 16) :][:2] == b"\r\n"
        coded = coded[int(size, 16) + 2 :]
    assert read == parts
    assert coded == b"\r\n"


@pytest.mark.parametrize(
    ("version", "headers"),
    [
        ("1.1", HOST),
        ("1.1", {b"host": b""}),
        ("1.0", {}),
        ("1.0", HOST),
        ("1.1", HOST | {b"transfer-encoding": b"chunked"}),
        ("1.1", HOST | {b"transfer-encoding": b" Chunked "}),
    ],
)
def test_a_plain_head_is_fine(version: str, headers: dict[bytes, bytes]) -> None:
    check_head(version, headers, None)


@pytest.mark.parametrize(
    ("version", "headers"),
    [
        ("1.1", {}),
        ("0.9", HOST),
        ("1.2", HOST),
        ("2.0", HOST),
        ("1.0", HOST | {b"transfer-encoding": b"chunked"}),
        ("1.1", HOST | {b"transfer-encoding": b""}),
        ("1.1", HOST | {b"transfer-encoding": b"gzip"}),
        ("1.1", HOST | {b"transfer-encoding": b"gzip, chunked"}),
        ("1.1", HOST | {b"transfer-encoding": b"chunked, chunked"}),
        ("1.1", HOST | {b"transfer-encoding": b"chunked;q=1"}),
    ],
)
def test_an_ambiguous_head_is_refused(version: str, headers: dict[bytes, bytes]) -> None:
    with pytest.raises(AmbiguousRequest):
        check_head(version, headers, None)


def test_a_repeated_field_is_named() -> None:
    with pytest.raises(AmbiguousRequest, match="authorization"):
        check_head("1.1", HOST, b"authorization")


@pytest.mark.parametrize(
    ("version", "value", "waits"),
    [
        ("1.1", None, False),
        ("1.1", b"100-continue", True),
        ("1.1", b" 100-Continue ", True),
        ("1.0", b"100-continue", False),
        ("1.0", b"anything", False),
    ],
)
def test_what_the_client_waits_for(version: str, value: bytes | None, *, waits: bool) -> None:
    headers = {} if value is None else {b"expect": value}
    assert expects_continue(headers, version) is waits


@pytest.mark.parametrize("value", [b"", b"200-ok", b"100-continue, more", b"100"])
def test_no_other_expectation_is_met(value: bytes) -> None:
    with pytest.raises(ExpectationFailed):
        expects_continue({b"expect": value}, "1.1")
