"""One line of JSON a request, whatever is in it; bounded and documented."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.core.record import Record
from arriero.telemetry.accesslog import TEXT_MAX, AccessLog, Line, encode_line

DOCUMENT = Path(__file__).parents[2] / "docs" / "logs.md"

FULL = Record(
    request_id="0123456789abcdef00000001",
    method="POST",
    path="/v1/chat/completions",
    status=502,
    code="backend_failed",
    alias="chat",
    backend="gpu1",
    operation="chat",
    client="10.0.0.7",
    principal="master",
    stream=True,
    attempts=2,
    outcome="backend_error",
    started_unix_s=1738367999.999,
    duration_s=1.23456789,
    first_token_s=0.1234567,
    prompt_tokens=5,
    cached_tokens=2,
    completion_tokens=6,
    request_bytes=100,
    response_bytes=300,
    ignored="tools,think",
    queue_s=0.25,
    user="u1",
    resumed=1,
)


def one(record: Record) -> dict[str, object]:
    (line,) = encode_line(record).decode().splitlines()
    fields = json.loads(line)
    assert isinstance(fields, dict)
    return fields


def documented() -> dict[str, bool]:
    """Return the fields of the first table of the page, and which of them are always there."""
    rows = re.findall(r"^\| `(\w+)` \| \w+ \| (yes)? *\|", DOCUMENT.read_text(), re.MULTILINE)
    return {name: bool(always) for name, always in rows}


def test_a_full_record_gives_every_field() -> None:
    assert one(FULL) == {
        "time": "2025-01-31T23:59:59.999Z",
        "request_id": "0123456789abcdef00000001",
        "client": "10.0.0.7",
        "principal": "master",
        "method": "POST",
        "path": "/v1/chat/completions",
        "operation": "chat",
        "alias": "chat",
        "backend": "gpu1",
        "attempts": 2,
        "stream": True,
        "status": 502,
        "outcome": "backend_error",
        "code": "backend_failed",
        "duration_s": 1.234567,
        "first_token_s": 0.123456,
        "prompt_tokens": 5,
        "cached_tokens": 2,
        "completion_tokens": 6,
        "request_bytes": 100,
        "response_bytes": 300,
        "ignored": "tools,think",
        "queue_s": 0.25,
        "user": "u1",
        "resumed": 1,
    }


def test_an_empty_record_gives_what_is_always_there() -> None:
    assert one(Record()) == {
        "time": "1970-01-01T00:00:00.000Z",
        "request_id": "",
        "method": "",
        "path": "",
        "status": 0,
        "outcome": "",
        "duration_s": 0.0,
    }


def test_every_field_is_documented_and_vice_versa() -> None:
    assert list(documented()) == list(Line.__struct_fields__) == list(one(FULL))
    assert {name for name, always in documented().items() if always} == one(Record()).keys()


def test_a_first_token_at_once_is_not_left_out() -> None:
    assert one(Record(first_token_s=0.0))["first_token_s"] == 0.0


@pytest.mark.parametrize("path", ["/v1/models?api_key=sk-secret", "/v1/models?", "/v1/models"])
def test_the_query_is_never_written(path: str) -> None:
    assert one(Record(path=path))["path"] == "/v1/models"


@pytest.mark.parametrize(
    ("length", "written"), [(TEXT_MAX - 1, TEXT_MAX - 1), (TEXT_MAX, TEXT_MAX), (10**6, TEXT_MAX)]
)
@pytest.mark.parametrize("name", ["path", "alias", "request_id", "method", "ignored"])
def test_strings_of_clients_are_bounded(name: str, length: int, written: int) -> None:
    record = Record()
    setattr(record, name, "x" * length)
    text = one(record)[name]
    assert isinstance(text, str)
    assert len(text) == written
    assert text.endswith("…") == (length > TEXT_MAX)


def test_an_absurd_token_count_stays_a_json_number() -> None:
    assert one(Record(completion_tokens=10**400))["completion_tokens"] == 2**53


def test_one_bad_string_does_not_cost_the_batch() -> None:
    log = AccessLog(lambda _: None)
    for record in (FULL, Record(alias="a\udc80b", path='/"\n'), FULL):
        log.add(record)
    lines = bytes(log.take()).splitlines()
    assert len(lines) == 3
    bad = json.loads(lines[1])
    assert (bad["alias"], bad["path"]) == ("a?b", '/"\n')
    assert lines[0] == lines[2] == encode_line(FULL).rstrip()


@given(
    st.builds(
        Record,
        path=st.text(st.characters()),
        alias=st.text(st.characters()),
        client=st.text(st.characters()),
        ignored=st.text(st.characters()),
        completion_tokens=st.integers(min_value=0),
        duration_s=st.floats(0, 1e9),
        started_unix_s=st.floats(0, 4e9),
    )
)
def test_any_record_is_one_line_of_json(record: Record) -> None:
    text = encode_line(record)
    assert text.count(b"\n") == 1
    assert text.endswith(b"}\n")
    json.loads(text)


def test_a_line_tells_what_held_when_the_request_was_settled() -> None:
    """Encoding later, and elsewhere, stopped the event loop for milliseconds."""
    log, record = AccessLog(lambda _: None), Record(status=200)
    log.add(record)
    record.status = 500
    assert json.loads(log.take())["status"] == 200


def test_lines_beyond_the_bound_are_dropped_and_counted() -> None:
    written: list[bytes] = []
    log = AccessLog(written.append, lines_max=3)
    for number in range(5):
        log.add(Record(status=number))
    assert log.dropped == 2
    log.flush()
    assert [json.loads(line)["status"] for line in written[0].splitlines()] == [0, 1, 2]
    log.add(Record(status=5))
    assert (log.dropped, json.loads(log.take())["status"]) == (2, 5)


def test_nothing_to_write_writes_nothing() -> None:
    written: list[bytes] = []
    AccessLog(written.append).flush()
    assert written == []


def test_a_log_that_is_off_keeps_and_counts_nothing() -> None:
    log = AccessLog(None, lines_max=1)
    for _ in range(3):
        log.add(FULL)
    log.flush()
    assert (log.dropped, bytes(log.take())) == (0, b"")
