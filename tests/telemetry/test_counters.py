"""What is counted, and that labels stay bounded whatever clients send."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.config.settings import Backend, Model, Route, Routing
from arriero.core.fleet import Fleet
from arriero.core.record import Record
from arriero.telemetry.counters import ERROR_CODES, Counters, Table


def a_record(**changes: object) -> Record:
    values: dict[str, object] = {
        "alias": "chat",
        "operation": "chat",
        "status": 200,
        "outcome": "ok",
        "attempts": 1,
        "duration_s": 1.5,
        "first_token_s": 0.25,
        "prompt_tokens": 10,
        "cached_tokens": 4,
        "completion_tokens": 20,
        "request_bytes": 100,
        "response_bytes": 200,
    }
    return Record(**(values | changes))  # type: ignore[arg-type] # a builder for tests


def settle_all(fleet: Fleet, records: Iterable[Record], series_max: int = 1000) -> Counters:
    counters = Counters(lambda: fleet, series_max=series_max)
    for record in records:
        counters.settle(record)
    return counters


def test_settle_counts_all_that_a_record_tells(fleet: Fleet) -> None:
    counters = settle_all(fleet, [a_record(), a_record(first_token_s=-1.0)])
    assert counters.requests["chat", "chat", 200, "ok"].count == 2
    assert counters.durations["chat", "chat"].total == 3.0
    alias = counters.aliases["chat"]
    assert (alias.prompt_tokens, alias.cached_tokens, alias.completion_tokens) == (20, 8, 40)
    assert sum(alias.first_token.counts) == 1
    assert (counters.request_bytes, counters.response_bytes) == (200, 400)
    assert (alias.retries, alias.failovers) == (0, 0)
    assert counters.errors.counts == {}


def test_a_request_that_asked_no_backend_has_no_tokens_to_count(fleet: Fleet) -> None:
    counters = settle_all(fleet, [a_record(attempts=0)])
    assert counters.aliases["chat"].prompt_tokens == 0


def test_further_attempts_are_retries_and_a_rescue_is_a_failover(fleet: Fleet) -> None:
    failed = a_record(attempts=2, status=502, outcome="backend_error", code="backend_failed")
    counters = settle_all(fleet, [a_record(attempts=3), failed, failed])
    alias = counters.aliases["chat"]
    assert (alias.retries, alias.failovers) == (4, 1)
    assert counters.errors.counts == {("backend_failed",): 2}


def test_a_first_token_at_once_is_counted(fleet: Fleet) -> None:
    counters = settle_all(fleet, [a_record(first_token_s=0.0)])
    assert sum(counters.aliases["chat"].first_token.counts) == 1


def test_durations_are_shared_by_the_outcomes_of_one_operation(fleet: Fleet) -> None:
    gone = a_record(outcome="client_gone", status=499)
    counters = settle_all(fleet, [a_record(), gone])
    assert list(counters.durations) == [("chat", "chat")]
    assert sum(counters.durations["chat", "chat"].counts) == 2


def test_unknown_aliases_share_one_series(fleet: Fleet) -> None:
    counters = settle_all(
        fleet,
        [a_record(alias=f"guess-{i}", status=404, outcome="client_error") for i in range(50)],
    )
    assert list(counters.requests) == [("", "chat", 404, "client_error")]
    assert list(counters.aliases) == [""]


def test_unknown_backends_share_one_series(fleet: Fleet) -> None:
    counters = Counters(lambda: fleet)
    for name in ("a", "gone", "away"):
        counters.attempt_failed(name, "silent")
        counters.ejected(name)
    assert counters.backend_failures.counts == {("a", "silent"): 1, ("", "silent"): 2}
    assert counters.ejections.counts == {("a",): 1, ("",): 2}


def test_codes_that_are_not_ours_are_other(fleet: Fleet) -> None:
    counters = settle_all(fleet, [a_record(code=f"backend says {i}") for i in range(3)])
    assert counters.errors.counts == {("other",): 3}


@pytest.mark.parametrize("code", ["invalid_api_key", "backend_timeout", "internal_error"])
def test_codes_are_collected_from_the_error_types(code: str) -> None:
    assert code in ERROR_CODES


def test_tools_dropped_counts_by_alias(fleet: Fleet) -> None:
    counters = Counters(lambda: fleet)
    counters.tools_dropped("chat")
    counters.tools_dropped("chat")
    counters.tools_dropped("never heard of")
    assert counters.aliases["chat"].tools_dropped == 2
    assert counters.aliases[""].tools_dropped == 1


def test_reloads_count_by_result(fleet: Fleet) -> None:
    counters = Counters(lambda: fleet)
    counters.reloaded(ok=True)
    counters.reloaded(ok=False)
    counters.reloaded(ok=False)
    assert counters.reloads.counts == {("ok",): 1, ("failed",): 2}


def test_the_fleet_may_change_under_the_counters() -> None:
    def fleet_with(alias: str) -> Fleet:
        route = Route(backend="a", model="m")
        return Fleet(
            [Backend(name="a", url="http://a")], [Model(name=alias, routes=(route,))], Routing()
        )

    fleets = [fleet_with("old"), fleet_with("new")]
    counters = Counters(lambda: fleets[0])
    counters.settle(a_record(alias="new"))
    del fleets[0]
    counters.settle(a_record(alias="new"))
    assert sorted(counters.aliases) == ["", "new"]


@given(statuses=st.lists(st.integers(100, 599), max_size=60), bound=st.integers(1, 5))
def test_series_are_bounded_and_no_request_is_lost(statuses: list[int], bound: int) -> None:
    route = Route(backend="a", model="m")
    fleet = Fleet(
        [Backend(name="a", url="http://a")], [Model(name="chat", routes=(route,))], Routing()
    )
    counters = settle_all(fleet, [a_record(status=status) for status in statuses], bound)
    assert len(counters.requests) <= bound + 1
    assert sum(series.count for series in counters.requests.values()) == len(statuses)


def test_a_full_table_counts_new_labels_together() -> None:
    table = Table(series_max=2)
    for label in ("a", "b", "c", "d", "a"):
        table.add(label, "x")
    assert table.counts == {("a", "x"): 2, ("b", "x"): 1, ("", ""): 2}
