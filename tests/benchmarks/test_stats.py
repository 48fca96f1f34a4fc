import pytest
from benchmarks.stats import Cell, cell, cells, missing, ratio, with_added
from hypothesis import given
from hypothesis import strategies as st

ROUNDS = [
    {"direct": {"p99_c1_ms": 1.0}, "a": {"p99_c1_ms": 3.0, "stalls": 0.0, "x": 5.0}},
    {"direct": {"p99_c1_ms": 2.0}, "a": {"p99_c1_ms": 3.5, "stalls": 2.0}},
    {"direct": {"p99_c1_ms": 1.5}, "a": {"p99_c1_ms": 9.0, "stalls": 0.0}},
]


def test_what_is_added_is_the_difference_to_the_same_round_s_direct_row() -> None:
    found = cells(ROUNDS, [])["a"]["added_p99_c1_ms"]
    assert (found.value, found.low, found.high, found.rounds) == (2.0, 1.5, 7.5, 3)


def test_the_direct_row_adds_nothing_to_itself() -> None:
    assert "added_p99_c1_ms" not in cells(ROUNDS, [])["direct"]


def test_without_a_direct_row_nothing_is_known_of_what_is_added() -> None:
    assert with_added({"a": {"p99_c1_ms": 3.0}}) == {"a": {"p99_c1_ms": 3.0}}


def test_one_stall_in_three_rounds_is_a_stall() -> None:
    assert cells(ROUNDS, [])["a"]["stalls"].value == 2


def test_the_fewest_streams_count() -> None:
    assert cell("streams_open", [1000, 998, 1000], []).value == 998


def test_a_figure_of_one_round_only_is_said_to_be_of_one() -> None:
    assert cells(ROUNDS, [])["a"]["x"].rounds == 1


def test_remarks_of_all_rounds_come_together_once() -> None:
    marks = [{"a": {"p99_c1_ms": ["noise"]}}, {}, {"a": {"p99_c1_ms": ["noise", "errors"]}}]
    found = cells(ROUNDS, marks)["a"]
    assert found["p99_c1_ms"].marks == ["noise", "errors"]
    assert found["added_p99_c1_ms"].marks == ["noise", "errors"]
    assert found["stalls"].marks == []


def test_a_figure_nobody_could_take_keeps_its_reason() -> None:
    marks = [{"a": {"ttft_p99_ms": ["no stream began"], "stalls": ["late"]}}]
    assert missing("a", cells(ROUNDS, marks)["a"], marks) == {"ttft_p99_ms": ["no stream began"]}


@given(st.lists(st.floats(0.001, 1e9), min_size=1, max_size=9))
def test_the_reported_figure_lies_in_its_range(values: list[float]) -> None:
    found = cell("cpu_us_per_request", values, [])
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"), [(30.0, 20.0, 1.5), (30.0, 0.0, None), (0.0, 5.0, 0.0)]
)
def test_ratios(ours: float, theirs: float, expected: float | None) -> None:
    assert ratio(Cell(ours, 0, 0, 1), Cell(theirs, 0, 0, 1)) == expected


def test_a_ratio_to_nothing_is_nothing() -> None:
    assert ratio(None, Cell(1, 1, 1, 1)) is None
    assert ratio(Cell(1, 1, 1, 1), None) is None
