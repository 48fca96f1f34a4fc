"""Requests in pages: as they were, in their order, and found as by looking at each."""

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.store.test_conformance import NOON, row

from arriero.store.port import StoreError, UsageBatch, UsageQuery, UsageRow
from arriero.store.usage import PAGE_ROWS, SEQ_STEP, Narrowing, add, days, join, pages


def batch_of(*together: Sequence[UsageRow]) -> UsageBatch:
    batch = UsageBatch()
    for rows in together:
        add(batch, rows)
    return batch


def test_a_page_is_an_array_of_arrays_in_this_order() -> None:
    """Pages outlive releases: a change here needs a step of the schema."""
    (page,) = pages(batch_of([row(1)]))
    assert page["document"] == (
        '[["r1",1800000000.0,"key-1","","llama","llama3:8b","a","chat","ok",200,10,3,20,'
        "0.5,0.25,1.5,0]]"
    )


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (0, []),
        (1, [1]),
        (PAGE_ROWS, [PAGE_ROWS]),
        (PAGE_ROWS + 1, [PAGE_ROWS, 1]),
        (3 * PAGE_ROWS, [PAGE_ROWS] * 3),
    ],
)
def test_pages_are_full_but_the_last(count: int, sizes: list[int]) -> None:
    made = list(pages(batch_of([row(number) for number in range(count)])))
    assert [page["requests"] for page in made] == sizes
    assert max(sizes, default=0) < SEQ_STEP


def test_a_page_tells_its_first_and_last_moment() -> None:
    times = [NOON + 3, NOON + 1, NOON + 2]
    (page,) = pages(batch_of([row(at_unix_s=time) for time in times]))
    assert (page["first_at"], page["last_at"]) == (NOON + 1, NOON + 3)


names = st.sampled_from(["", "k", "kk", 'k"', "k\\", "ü", "\x00", "llama"])
some_rows = st.lists(
    st.builds(
        row,
        st.integers(0, 9),
        at_unix_s=st.sampled_from([NOON, NOON + 0.5, NOON + 86_400]),
        key_id=names,
        user=names,
        alias=names,
        backend=names,
    ),
    max_size=8,
)
queries = st.builds(
    UsageQuery,
    first_day=st.sampled_from(["", "2027-01-15", "2027-01-16"]),
    last_day=st.sampled_from(["", "2027-01-15", "2027-01-16"]),
    key_id=names,
    user=st.just("") | names,
    alias=st.just("") | names,
    backend=st.just("") | names,
    before_seq=st.sampled_from([0, 7 * SEQ_STEP, 7 * SEQ_STEP + 3, 8 * SEQ_STEP]),
)


def is_asked_for(one: UsageRow, query: UsageQuery, day: str) -> bool:
    return (
        query.key_id in ("", one.key_id)
        and query.user in ("", one.user)
        and query.alias in ("", one.alias)
        and query.backend in ("", one.backend)
        and (query.first_day or day) <= day <= (query.last_day or day)
    )


@given(some_rows, queries)
def test_a_page_is_searched_as_each_of_its_requests(
    written: list[UsageRow], query: UsageQuery
) -> None:
    numbered = [
        msgspec.structs.replace(one, seq=7 * SEQ_STEP + place) for place, one in enumerate(written)
    ]
    expected = [
        one
        for one in reversed(numbered)
        if is_asked_for(one, query, "2027-01-16" if one.at_unix_s > NOON + 1 else "2027-01-15")
        and (query.before_seq == 0 or one.seq < query.before_seq)
    ]
    found = [
        one
        for page in pages(batch_of(written))
        for one in Narrowing(query).found(7, page["document"])
    ]
    assert found == expected


@pytest.mark.parametrize("document", ["", "[", '[["r1"]]', "[[null]]", "{}"])
def test_a_page_that_cannot_be_read_is_told(document: str) -> None:
    with pytest.raises(StoreError, match="page 7 of usage_pages") as told:
        list(Narrowing(UsageQuery()).found(7, document))
    assert told.value.hint


def test_a_row_of_a_later_release_is_read() -> None:
    """Fields are added at the end; an earlier release leaves out what it does not know."""
    (page,) = pages(batch_of([row(1)]))
    document = page["document"].replace(",0]]", ',0,"more"]]')
    assert [one.request_id for one in Narrowing(UsageQuery()).found(7, document)] == ["r1"]


def numbered(size: int) -> list[UsageRow]:
    return [row(size + number) for number in range(size)]


def found_in(batch: UsageBatch) -> list[str]:
    return [
        one.request_id
        for page in pages(batch)
        for one in reversed(list(Narrowing(UsageQuery()).found(1, page["document"])))
    ]


def test_what_is_added_shares_pages_and_sums() -> None:
    sizes = (64, 1, 0, 300, 136, PAGE_ROWS)
    written = batch_of(*map(numbered, sizes))
    # 136 more would be one too many.
    assert [page["requests"] for page in pages(written)] == [365, 136, PAGE_ROWS]
    assert written.requests == 2 * PAGE_ROWS + 1
    (day,) = days(written)
    assert (day["requests"], day["prompt_tokens"]) == (2 * PAGE_ROWS + 1, 10 * (2 * PAGE_ROWS + 1))
    assert found_in(written) == [one.request_id for size in sizes for one in numbered(size)]


def test_batches_are_joined_in_their_order() -> None:
    rows = numbered(3), [row(7), row(8, key_id="other", outcome="client_gone")]
    first, later = map(batch_of, rows)
    join(first, later)
    assert found_in(first) == [one.request_id for some in rows for one in some]
    assert first.requests == 5
    assert days(first) == days(batch_of(*rows))
    assert days(later) == days(batch_of(rows[1])), "which nobody changed"


def test_days_are_told_in_one_order() -> None:
    written = [
        row(1, at_unix_s=NOON + 86_400),
        row(2, key_id="z"),
        row(3, key_id="b", outcome="client_gone"),
        row(4, key_id="b", prompt_tokens=5),
    ]
    assert days(batch_of(written)) == days(batch_of(written[::-1]))
    assert [tuple(day.values()) for day in days(batch_of(written))] == [
        ("2027-01-15", "b", "", "llama", "a", 2, 1, 15, 6, 40),
        ("2027-01-15", "z", "", "llama", "a", 1, 0, 10, 3, 20),
        ("2027-01-16", "key-1", "", "llama", "a", 1, 0, 10, 3, 20),
    ]
