"""The judgements of `arriero smoke` that need no server: facts in, findings out."""

import json
from typing import Any

import pytest

from arriero.app.client import Exchange
from arriero.app.smoke import answers, fleet
from arriero.app.smoke.finding import Finding, Outcome, Verdict, outcome
from arriero.wire.status_page import ModelStatus, StatusPage, TargetStatus


def exchange(body: Any = None, status: int = 200, **more: Any) -> Exchange:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Exchange(method="GET", path="/", sent_headers={}, status=status, body=content, **more)


def away() -> Exchange:
    return exchange(status=0, error="connection refused")


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        ([Verdict.PASS], Outcome.GO),
        ([Verdict.PASS, Verdict.UNMEASURED], Outcome.GO),
        ([Verdict.PASS, Verdict.UNKNOWN], Outcome.CANNOT_TELL),
        ([Verdict.UNKNOWN, Verdict.FAIL, Verdict.PASS], Outcome.NO_GO),
        ([Verdict.UNMEASURED], Outcome.CANNOT_TELL),
        ([], Outcome.CANNOT_TELL),
    ],
)
def test_what_findings_come_to(verdicts: list[Verdict], whole: Outcome) -> None:
    assert outcome(Finding("a step", verdict, "") for verdict in verdicts) is whole


def at(**moments: str) -> Exchange:
    models = [{"name": name, "expires_at": moment} for name, moment in moments.items()]
    return exchange({"models": models})


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (at(a="2030-01-01T00:00:00Z"), at(a="2030-01-01T00:00:00.000001Z"), Verdict.PASS),
        (at(a="2030-01-01T00:00:00Z"), at(a="2030-01-01T00:30:00+02:00"), Verdict.FAIL),
        (at(a="2030-01-01T00:00:00Z"), at(a="2030-01-01T00:00:00Z"), Verdict.FAIL),
        (at(), at(a="2030-01-01T00:00:00.123456789-07:00"), Verdict.PASS),
        (at(), at(), Verdict.UNMEASURED),
        (at(a="2318-01-01T00:00:00Z"), at(a="2318-01-01T00:00:00Z"), Verdict.UNMEASURED),
        (at(), at(a="soon"), Verdict.UNMEASURED),
        (exchange({}, 404), exchange({}, 404), Verdict.UNMEASURED),
        (exchange([]), exchange([]), Verdict.UNMEASURED),
        (away(), at(), Verdict.UNKNOWN),
        (at(), away(), Verdict.UNKNOWN),
    ],
)
def test_a_backend_tells_by_its_expiry(before: Exchange, after: Exchange, verdict: Verdict) -> None:
    assert fleet.resident("word", "http://b", before, after).verdict is verdict


def page(*targets: TargetStatus, uptime_s: float = 1.0) -> StatusPage:
    return StatusPage(
        version="1",
        config_digest="d",
        uptime_s=uptime_s,
        ready=True,
        backends=(),
        models=(ModelStatus(name="phi3", targets=targets),),
    )


def test_an_alias_without_an_available_backend_fails() -> None:
    target = TargetStatus(backend="a", model="phi3:3.8b", available=False)
    found = fleet.fan_out("fan-out", page(target), page(target, uptime_s=2), "phi3")
    assert found.verdict is Verdict.FAIL
    assert "no backend of phi3 is available" in found.detail


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"version":1}'])
def test_a_page_of_something_else_is_no_status(body: bytes) -> None:
    assert fleet.status_page(exchange(body)) is None


EVENT_STREAM = {"content-type": "text/event-stream"}


@pytest.mark.parametrize(
    ("found", "detail"),
    [
        (answers.refused("s", away(), 401), "connection refused"),
        (answers.models("s", exchange({"data": 1}), ()), "not a model list: Expected `array`"),
        (answers.chat("s", exchange({}), "a"), "missing required field `id`"),
        (answers.chat("s", exchange(b"<html>", 502), "a"), "HTTP 502"),
        (answers.stream("s", exchange({}), "a"), "content type none"),
        (answers.stream("s", exchange(b"", headers=EVENT_STREAM), "a"), "no chunk at all"),
        (
            answers.stream("s", exchange(b"data: oops\n\n", headers=EVENT_STREAM), "a"),
            "after 0 chunks: JSON is malformed",
        ),
        (answers.embeddings("s", away(), "a"), "connection refused"),
        (answers.embeddings("s", exchange({"data": []}), "a"), "not an embedding"),
        (answers.metrics("s", away(), public=False), "connection refused"),
        (answers.metrics("s", exchange({}, 500), public=True), "HTTP 500"),
    ],
)
def test_what_is_wrong_is_said(found: Finding, detail: str) -> None:
    assert found.verdict is Verdict.FAIL
    assert detail in found.detail


def test_metrics_may_be_refused_in_any_words() -> None:
    for status in (401, 403):
        refused = exchange({"detail": "no key"}, status)
        assert answers.metrics("s", refused, public=False).verdict is Verdict.PASS
    broken = exchange({}, 500)
    assert answers.metrics("s", broken, public=False).verdict is Verdict.FAIL


def test_a_gateway_without_metrics_is_not_judged() -> None:
    missing = exchange({}, 404)
    assert answers.metrics("s", missing, public=False).verdict is Verdict.UNMEASURED


def test_a_thinking_model_may_spend_it_all_on_thinking() -> None:
    message = {"role": "assistant", "content": "", "reasoning_content": "Hmm. " * 20}
    answer = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "a",
        "choices": [{"message": message, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 16, "total_tokens": 19},
    }
    found = answers.chat("s", exchange(answer), "a")
    assert found.verdict is Verdict.PASS
    assert '..." (3+16 tokens)' in found.detail
