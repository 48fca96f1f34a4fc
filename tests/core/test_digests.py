"""Which weights are served."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.core.digests import Copy, is_odd, served


def copies(text: str) -> list[Copy]:
    """Make copies of letters: a capital is available, a dot is not known."""
    return [Copy("" if each == "." else each.lower(), each.isupper()) for each in text]


@pytest.mark.parametrize(
    ("fleet", "current", "digest"),
    [
        ("", "", ""),
        ("A", "", "a"),
        ("AB", "", "a"),  # a tie: the first of the configuration
        ("AB", "b", "b"),  # a tie: what is served
        ("ABB", "", "b"),  # the majority
        ("ABB", "a", "b"),
        ("aBB", "a", "b"),
        ("Abb", "b", "a"),  # the others are away
        ("abb", "b", "b"),  # all are away: nothing changes
        ("abb", "", ""),
        ("..A", "", "a"),
        ("...", "a", "a"),
    ],
)
def test_who_is_served(fleet: str, current: str, digest: str) -> None:
    assert served(copies(fleet), current) == digest


def test_a_rolling_pull_changes_once() -> None:
    digest, seen = "", []
    for step in ("AAAA", "BAAA", "BBAA", "BBBA", "BBBB"):
        digest = served(copies(step), digest)
        seen.append(digest)
    assert seen == ["a", "a", "a", "b", "b"]


@pytest.mark.parametrize(
    ("copy", "digest", "odd"),
    [("a", "b", True), ("a", "a", False), ("", "a", False), ("a", "", False)],
)
def test_who_is_left_out(copy: str, digest: str, *, odd: bool) -> None:
    assert is_odd(Copy(copy, available=True), digest) is odd


@given(st.text("ABCabc.", max_size=8), st.sampled_from(["", "a", "b", "c"]))
def test_somebody_available_always_serves(fleet: str, current: str) -> None:
    have = copies(fleet)
    digest = served(have, current)
    if any(copy.available and copy.digest for copy in have):
        assert any(copy.available and copy.digest == digest for copy in have)
    assert served(have, digest) == digest, "it settles"
