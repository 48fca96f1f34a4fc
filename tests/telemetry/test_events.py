"""The service's own log: one JSON object an event."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from arriero.telemetry.events import LINE_BYTES_MAX, configure


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Return where the events go, and leave the logger of the process as it was."""
    logger = logging.getLogger("arriero")
    before = (logger.handlers, logger.level, logger.propagate, logging.lastResort)
    stream = io.StringIO()
    configure("info", stream)
    yield stream
    logger.handlers, logger.level, logger.propagate, logging.lastResort = before


def read(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_has_its_fields(stream: io.StringIO) -> None:
    logging.getLogger("arriero.fleet").warning(
        "backend ejected", extra={"backend": "gpu1", "ejection_s": 5.0, "probe": False, "x": None}
    )
    (event,) = read(stream)
    assert isinstance(event.pop("time"), str)
    assert event == {
        "level": "warning",
        "logger": "arriero.fleet",
        "event": "backend ejected",
        "backend": "gpu1",
        "ejection_s": 5.0,
        "probe": False,
        "x": None,
    }


def test_the_level_decides(stream: io.StringIO) -> None:
    logger = logging.getLogger("arriero.app")
    logger.debug("hidden")
    logger.info("shown")
    configure("error", stream)
    logger.warning("hidden too")
    assert [event["event"] for event in read(stream)] == ["shown"]


def test_configuring_again_does_not_write_twice(stream: io.StringIO) -> None:
    configure("info", stream)
    logging.getLogger("arriero").info("once")
    assert len(read(stream)) == 1


def test_events_do_not_reach_the_root_logger(stream: io.StringIO) -> None:
    elsewhere = io.StringIO()
    handler = logging.StreamHandler(elsewhere)
    logging.getLogger().addHandler(handler)
    try:
        logging.getLogger("arriero").info("ours")
    finally:
        logging.getLogger().removeHandler(handler)
    assert (elsewhere.getvalue(), len(read(stream))) == ("", 1)


def test_what_libraries_have_to_say_is_json_too(stream: io.StringIO) -> None:
    library = logging.getLogger("library")
    library.propagate = False  # to pytest, which has handlers where a service has none
    library.info("chatter")
    library.warning("Executing %s took %.3f seconds", "<Handle>", 0.5)
    (event,) = read(stream)
    assert (event["logger"], event["level"]) == ("library", "warning")
    assert event["event"] == "Executing <Handle> took 0.500 seconds"


def test_a_defect_has_its_traceback_and_request_id(stream: io.StringIO) -> None:
    try:
        {"there": 1}.pop("missing")
    except KeyError:
        logging.getLogger("arriero.server").exception("defect", extra={"request_id": "abc"})
    (event,) = read(stream)
    assert event["request_id"] == "abc"
    assert "KeyError: 'missing'" in str(event["traceback"])


def test_an_extra_cannot_forge_what_every_line_has(stream: io.StringIO) -> None:
    logging.getLogger("arriero").info("real", extra={"event": "forged", "level": "forged"})
    (event,) = read(stream)
    assert (event["event"], event["level"]) == ("real", "info")


@pytest.mark.parametrize("text", ['"quoted"', "two\nlines", "a\udc80b", "\x00", "ünï"])
def test_any_text_is_one_line_of_json(stream: io.StringIO, text: str) -> None:
    logging.getLogger("arriero").info("%s", text, extra={"thing": text, "other": [text]})
    (event,) = read(stream)
    assert event["thing"] == text.encode("utf-8", "backslashreplace").decode()


@pytest.mark.parametrize("filler", ["x", "\x01", "ü"])
def test_a_line_is_bounded(stream: io.StringIO, filler: str) -> None:
    logging.getLogger("arriero").info("long", extra={"a": filler * 100_000, "b": filler * 100_000})
    assert len(stream.getvalue().encode()) <= LINE_BYTES_MAX
    (event,) = read(stream)
    assert event["event"] == "long"
