"""Hints mean the same at every gateway with the same master key, and are bounded."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.test_adaptive import SYSTEM, ask, chosen, new_fleet, send, station

from arriero.core.fleet import Fleet
from arriero.core.hints import BLOCKS_TOLD, HINTS_MAX, Hints, heed
from arriero.core.learning import sent


def telling(secret: bytes = b"sk-master") -> tuple[Fleet, Hints]:
    fleet, hints = new_fleet(), Hints(secret)
    fleet.roster.hints = hints
    return fleet, hints


def tell(hints: Hints, fleet: Fleet) -> None:
    heed(fleet.hosts.values(), hints.take())


def test_what_one_sent_is_known_to_the_other() -> None:
    (here, told), (there, _) = telling(), telling()
    send(here, "c", ask(SYSTEM, "hello")).succeed()
    tell(told, there)
    assert chosen(there, ask(SYSTEM, "hello", "hi", "more")) == "c"
    assert told.take() == [], "it is told once"


def test_a_conversation_is_known_by_its_name() -> None:
    (here, told), (there, _) = telling(), telling()
    for name in ("a", "b", "d"):
        send(there, name, ask("something else")).succeed()
    send(here, "b", ask("one thing", session="alice:1")).succeed()
    tell(told, there)
    assert chosen(there, ask("another thing", session="alice:1")) == "b"


def test_another_master_key_makes_other_hashes() -> None:
    (here, told), (there, _) = telling(b"one"), telling(b"another")
    send(here, "c", ask(SYSTEM, "hello", session="alice:1")).succeed()
    (hint,) = told.take()
    assert hint.session != Hints(b"another").session("alice:1")
    heed(there.hosts.values(), [hint])
    index = station(there, "c").group.prefixes
    assert index.host_of(Hints(b"another").session("alice:1")) == 0


def test_hosts_and_models_that_are_not_there_are_passed_over() -> None:
    (here, told), there = telling(), new_fleet(count=1)
    send(here, "c", ask(SYSTEM, "hello")).succeed()
    hints = told.take()
    del there.hosts["a"].stations["m:1"]
    heed(there.hosts.values(), hints)
    heed([], hints)
    assert not there.roster.groups["m:1"].prefixes


def test_what_is_told_at_a_time_is_bounded() -> None:
    fleet, hints = telling()
    for number in range(HINTS_MAX + 10):
        text = f"question {number} " * 10_000
        sent(station(fleet, "a"), ask(SYSTEM, text))
    told = hints.take()
    assert len(told) == HINTS_MAX
    assert {len(hint.blocks) for hint in told} == {BLOCKS_TOLD}


part = st.text(st.characters(exclude_characters="\0")) | st.integers()
Parts = tuple[Any, ...]


@given(st.tuples(part, part), st.tuples(part, part))
def test_hashes_are_equal_where_the_parts_are(one: Parts, other: Parts) -> None:
    hashed = Hints(b"key").hashed
    assert -(2**63) <= hashed(one) < 2**63
    same = list(map(str, one)) == list(map(str, other))
    assert (Hints(b"key").hashed(other) == hashed(one)) is same


@pytest.mark.parametrize("text", ["", "\ud800", "\0", "ü" * 100_000])
def test_any_text_has_a_hash(text: str) -> None:
    assert Hints(b"").hashed((text,)) != Hints(b"k").hashed((text,))
