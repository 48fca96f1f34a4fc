"""The table of residency, cell by cell, and what makes a process another one."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.core import residency
from arriero.core.residency import Residency, Told, after, restarted

R = Residency
LOOKS = (Told.ABSENT, Told.DISK, Told.MEMORY)


def written() -> dict[tuple[Residency, Told], Residency]:
    """Read the table in the docstring."""
    rows = re.findall(
        r"^ {4}([A-Z]+) +" + r" +".join([r"([A-Z]+)"] * len(Told)) + "$",
        residency.__doc__ or "",
        re.MULTILINE,
    )
    return {
        (Residency[state], told): Residency[cell]
        for state, *cells in rows
        for told, cell in zip(Told, cells, strict=True)
    }


def test_the_table_is_total_and_that_of_the_docstring() -> None:
    table = written()
    assert table.keys() == {(state, told) for state in R for told in Told}
    assert {key: after(*key) for key in table} == table


@pytest.mark.parametrize("state", R)
def test_a_look_is_believed_but_for_loads_under_way(state: Residency) -> None:
    assert after(state, Told.ABSENT) is R.ABSENT
    seen = [after(state, Told.DISK), after(state, Told.MEMORY)]
    assert seen == ([R.LOADING] * 2 if state is R.LOADING else [R.INSTALLED, R.LOADED])


@pytest.mark.parametrize("state", R)
def test_what_answers_is_in_memory(state: Residency) -> None:
    assert after(state, Told.ANSWERED) is (R.LOADING if state is R.LOADING else R.LOADED)


@pytest.mark.parametrize("state", R)
def test_nothing_survives_its_process(state: Residency) -> None:
    assert after(state, Told.GONE) is (R.LOADING if state is R.LOADING else R.UNKNOWN)


@given(st.lists(st.sampled_from(Told)))
def test_only_its_own_end_or_absence_ends_a_load(events: list[Told]) -> None:
    state = after(R.INSTALLED, Told.LOAD)
    for told in events:
        before, state = state, after(state, told)
        if before is R.LOADING and state is not R.LOADING:
            assert told in (Told.DONE, Told.FAILED, Told.ABSENT)


@given(st.sampled_from(R), st.lists(st.sampled_from(Told)))
def test_a_look_always_settles_what_is_not_loading(state: Residency, events: list[Told]) -> None:
    for told in events:
        state = after(state, told)
    settled = after(after(state, Told.DONE), Told.DISK)
    assert settled is R.INSTALLED


@pytest.mark.parametrize(
    ("was", "now", "versions", "expected"),
    [
        (set(), set(), ("0.33", "0.33"), False),
        ({"a"}, {"a"}, ("0.33", "0.33"), False),
        ({"a", "b"}, {"b"}, ("0.33", "0.33"), False),
        ({"a", "b"}, set(), ("0.33", "0.33"), True),
        ({"a"}, {"b"}, ("0.33", "0.33"), False),  # evicted for another
        (set(), {"a"}, ("0.33", "0.33"), False),
        ({"a"}, {"a"}, ("0.33", "0.34"), True),
        ({"a"}, {"a"}, ("", "0.34"), False),  # the first look
    ],
)
def test_another_process(
    was: set[str], now: set[str], versions: tuple[str, str], *, expected: bool
) -> None:
    assert restarted(was, now, *versions) is expected
