"""A request as the parser delivers it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.server.request import Request


def to(target: bytes) -> Request:
    request = Request()
    request.target = target
    return request


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/v1/models", "/v1/models"),
        (b"/v1/models?limit=5", "/v1/models"),
        (b"/v1/models?a=/b?c", "/v1/models"),
        (b"/v1/models#part", "/v1/models"),
        (b"/v1/models/org%2Fname", "/v1/models/org/name"),
        (b"/v1/models/%3Fa%23b", "/v1/models/?a#b"),
        (b"/v1/models/llama%C3%A9", "/v1/models/llamaé"),
        (b"/v1/models/%ff", "/v1/models/\N{REPLACEMENT CHARACTER}"),
        (b"/v1/models/%", "/v1/models/%"),
        (b"/v1/models/%2525", "/v1/models/%25"),  # decoded once
        (b"http://gateway/v1/models?a=b", "/v1/models"),
        (b"http://gateway:4000/v1/models", "/v1/models"),
        (b"HTTPS://[::1]:4000/v1/models/a%2Fb", "/v1/models/a/b"),
        (b"http://gateway", "/"),
        (b"http://gateway?a=/v1/models", "/"),
        (b"/http://gateway/v1/models", "/http://gateway/v1/models"),
        (b"*", "*"),
        (b"", ""),
    ],
)
def test_the_path_of_a_target(target: bytes, path: str) -> None:
    assert to(target).path == path


@given(target=st.binary(max_size=60))
def test_every_target_has_a_path(target: bytes) -> None:
    to(target).path.encode()  # which has no lone surrogate


@given(parts=st.lists(st.binary(max_size=20), max_size=6))
def test_the_body_is_its_parts(parts: list[bytes]) -> None:
    request = Request()
    request.body_parts = list(parts)
    assert request.body() == b"".join(parts)
    assert request.body() == b"".join(parts)
    assert len(request.body_parts) == 1


NAMES = st.sampled_from([b"host", b"accept", b"transfer-encoding", b"x-a"])


@given(fields=st.lists(st.tuples(NAMES, st.binary(max_size=9)), max_size=8))
def test_no_field_is_missing_from_the_head_s_length(fields: list[tuple[bytes, bytes]]) -> None:
    request = to(b"/v1/models")
    for name, value in fields:
        if name in request.headers:
            request.note_repeated(name, request.headers[name])
        request.headers[name] = value
    request.method = b"GET"
    lines = [b"%b: %b\r\n" % field for field in fields]
    head = b"GET /v1/models HTTP/1.1\r\n" + b"".join(lines) + b"\r\n"
    assert request.head_bytes() == len(head)
    assert len(request.headers) + request.repeats == len(fields)


@pytest.mark.parametrize("name", [b"host", b"authorization", b"x-api-key", b"transfer-encoding"])
def test_a_field_that_decides_is_noted_when_it_comes_twice(name: bytes) -> None:
    request = Request()
    request.note_repeated(b"accept", b"*/*")
    assert request.repeated is None
    request.note_repeated(name, b"a")
    assert request.repeated == name


def test_trailers_are_no_fields() -> None:
    request = Request()
    request.method = b"POST"
    request.note_repeated(b"host", b"a")
    assert request.repeated is None
    assert request.repeats == 0
