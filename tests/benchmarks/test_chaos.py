"""The chaos run keeps its own promises, sees what is wrong with an answer, and runs."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from benchmarks.chaos.clients import Asked, Received, Tally, ask_of, judge
from benchmarks.chaos.gateway import config_of, samples, summed, unrest
from benchmarks.chaos.report import document, figures, table, verdict
from benchmarks.chaos.run import Outcome, Settings
from benchmarks.chaos.schedule import GAP_S, Event, Kind, draw
from hypothesis import given
from hypothesis import strategies as st

from arriero.config.load import load
from arriero.testing.text import tokens

SETTINGS = Settings(
    duration_s=20, streams=2, backends=4, slots=8, tokens_per_s=25, seed=1
)  # fmt: skip
ASKED = Asked("Story 1 in 5 words", stream=True)
HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


# -- what is done to the backends


@given(st.integers(0, 10_000), st.integers(2, 6))
def test_somebody_lives_and_no_two_blows_fall_together(seed: int, backends: int) -> None:
    events = draw(seed, 300, backends)
    assert events
    for one, other in pairwise(events):
        assert other.at_s - one.at_s >= GAP_S[0]
    for event in events:
        down = {e.backend for e in events if e.at_s <= event.at_s and e.until_s > event.at_s}
        down.add(event.backend)
        assert len(down) < backends
        assert event.until_s < 300
        if event.kind in {Kind.BREAK, Kind.FAIL}:
            assert event.until_s <= event.at_s + GAP_S[0], "a fault ends before the next blow"
    assert draw(seed, 300, backends) == events, "a seed is a run"


def test_all_kinds_of_blows_fall_in_a_long_run() -> None:
    assert {event.kind for event in draw(1, 600, 4)} == set(Kind)


# -- what an answer is compared with


def stream(text: str, *, reason: str = "stop", count: int = -1, done: bool = True) -> bytes:
    usage = {"completion_tokens": count if count >= 0 else len(tokens(text)) + 1}
    events: list[Any] = [
        {"id": "a", "choices": [{"delta": {"content": word}, "finish_reason": None}]}
        for word in tokens(text)
    ]
    events.append({"id": "a", "choices": [{"delta": {}, "finish_reason": reason}]})
    events.append({"id": "a", "choices": [], "usage": usage})
    lines = [b"data: " + json.dumps(event).encode() for event in events]
    return b"\n\n".join([*lines, b"data: [DONE]"] if done else lines) + b"\n\n"


def judged(body: bytes, head: bytes = HEAD) -> Tally:
    tally = Tally()
    judge(ASKED, Received(head, body), tally)
    return tally


def test_the_answer_that_is_due_is_good() -> None:
    tally = judged(stream(ASKED.text))
    assert tally.bad == 0
    assert (tally.streams, tally.characters) == (1, len(ASKED.text))


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (stream(ASKED.text + "x"), "altered"),
        (stream(ASKED.text[:-1]), "altered"),
        (stream(ASKED.text, reason="length"), "altered"),
        (stream(ASKED.text, count=3), "miscounted"),
        (stream(ASKED.text).replace(b'"id": "a"', b'"id": "b"', 1), "miscounted"),
        (stream(ASKED.text, done=False), "broken"),
        (stream(ASKED.text)[:-20], "broken"),
        (b'data: {"error": {"message": "gone"}}\n\ndata: [DONE]', "broken"),
        (b"", "broken"),
    ],
)
def test_every_other_answer_is_told_for_what_it_is(body: bytes, what: str) -> None:
    tally = judged(body)
    assert getattr(tally, what) == tally.bad == 1
    assert tally.examples


@pytest.mark.parametrize("head", [b"HTTP/1.1 503 no\r\n\r\n", b"none 0 ", b""])
def test_no_answer_is_a_failure(head: bytes) -> None:
    assert judged(b"", head).failed == 1


def test_a_seed_asks_the_same_again() -> None:
    assert ask_of(Random(3)) == ask_of(Random(3)) != ask_of(Random(4))


# -- what the gateway is given, and says of itself


def _nothing(path: str) -> bytes:
    raise FileNotFoundError(path)


PAGE = """\
# HELP arriero_requests_open Requests not yet settled.
arriero_requests_open 1.0
arriero_backend_in_flight{backend="b1"} 0.0
arriero_backend_in_flight{backend="b2"} 2.0
arriero_resumptions_total{outcome="resumed"} 3.0
process_start_time_seconds 1.79e+09
"""


def test_metrics_are_read() -> None:
    found = samples(PAGE)
    assert found["arriero_requests_open"] == 1
    assert summed(found, "arriero_backend_in_flight") == {'backend="b1"': 0, 'backend="b2"': 2}
    assert found["process_start_time_seconds"] == 1.79e9


def test_what_is_still_counted_is_told() -> None:
    assert unrest(samples(PAGE), {"leftovers": 0}) == [
        'arriero_backend_in_flight{backend="b2"} = 2'
    ]
    assert unrest({}, {"leftovers": 4}) == ["leftovers = 4"]


def test_the_configuration_is_a_good_one(tmp_path: Path) -> None:
    text = json.dumps(config_of(["http://h:1", "http://h:2"], 8, tmp_path / "log"))
    loaded = load("chaos.yaml", text.encode(), {}, _nothing)
    assert not loaded.notes
    assert [backend.slots for backend in loaded.config.backends] == [8, 8]


# -- what is told


def outcome(**changes: Any) -> Outcome:
    tally = Tally(streams=3, first_token_s=[0.1, 0.2, 0.3], gap_s=[0.1, 0.1, 2.0])
    found = Outcome(SETTINGS, tally, [Event(1, Kind.KILL, 0, 2)], warm_kib=1000, end_kib=1500)
    found.counts = {'arriero_resumptions_total{outcome="resumed"}': 3.0}
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def test_the_table_and_the_document_say_the_same() -> None:
    told = json.loads(document(outcome()))
    assert told["figures"]["resumptions"] == {"resumed": 3}
    assert told["events"] == [{"at_s": 1, "what": "kill -9 on b1"}]
    assert told["wrong"] == []
    assert "resumptions                     resumed 3" in table(outcome())
    assert set(told["figures"]) == set(figures(outcome()))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"unrest": ["leftovers = 1"]}, "not at rest"),
        ({"end_kib": 1000 + 16_385}, "memory grew"),
        ({"tally": Tally()}, "no stream"),
        ({"tally": Tally(streams=1, broken=2)}, "2 answers broke off"),
    ],
)
def test_what_is_wrong_is_told(changes: dict[str, Any], words: str) -> None:
    assert any(words in each for each in verdict(outcome(**changes)))
    assert verdict(outcome()) == []


@pytest.mark.timeout(180)
def test_the_short_run_finds_nothing(tmp_path: Path) -> None:
    report = tmp_path / "chaos.json"
    # Fewer slots than clients, so that the queue has its part.
    words = ["--short", "--slots", "20", "--json", str(report)]
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.chaos", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = json.loads(report.read_text())["figures"]
    assert told["streams"] > 100
    assert told["still counted at the end"] == "nothing"
