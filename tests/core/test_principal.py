"""Who a request is counted for."""

from hypothesis import given
from hypothesis import strategies as st

from arriero.core.principal import USER_CHARS_MAX, Principal, identify

HEADER = b"x-openwebui-user-id"


def test_a_key_speaks_for_itself() -> None:
    who = identify({HEADER: b"somebody"}, "master", trusted=False, user_header=HEADER)
    assert who == Principal("master")
    assert (who.name, who.user, who.trusted) == ("master", "", False)


def test_a_trusted_key_names_its_users() -> None:
    who = identify({HEADER: b"u1"}, "master", trusted=True, user_header=HEADER)
    assert (who.name, who.user, who.trusted) == ("master/u1", "u1", True)
    same = identify({b"x-person": b"u1"}, "master", trusted=True, user_header=b"x-person")
    assert same == who


def test_a_trusted_key_may_speak_for_itself_too() -> None:
    for headers in ({}, {HEADER: b""}):
        who = identify(headers, "master", trusted=True, user_header=HEADER)
        assert (who.name, who.trusted) == ("master", True)


@given(st.binary(min_size=1, max_size=3 * USER_CHARS_MAX), st.binary(min_size=1, max_size=8))
def test_users_are_told_apart_and_bounded(one: bytes, other: bytes) -> None:
    names = [
        identify({HEADER: user}, "k", trusted=True, user_header=HEADER).name
        for user in (one, other)
    ]
    assert all(len(name) <= USER_CHARS_MAX + 2 for name in names)
    assert (names[0] == names[1]) == (one[:USER_CHARS_MAX] == other[:USER_CHARS_MAX])
