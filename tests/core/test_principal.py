"""Who a request is counted for, and what its head says about it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.base.errors import BadRequest
from arriero.core.keys import Key
from arriero.core.principal import USER_CHARS_MAX, Caller, Priority, identify

HEADER = b"x-openwebui-user-id"


def who(headers: dict[bytes, bytes], key: str = "master", *, trusted: bool = True) -> Caller:
    return identify(headers, Key(id=key, digest=b"", trusted=trusted), HEADER)


def test_a_key_speaks_for_itself() -> None:
    caller = who({HEADER: b"somebody"}, trusted=False)
    assert (caller.key, caller.name, caller.user, caller.trusted) == ("master", "master", "", False)


def test_a_trusted_key_names_its_users() -> None:
    caller = who({HEADER: b"u1"})
    assert (caller.key, caller.name, caller.user) == ("master", "master/u1", "u1")
    master = Key(id="master", digest=b"", trusted=True)
    same = identify({b"x-person": b"u1"}, master, b"x-person")
    assert same == caller


def test_a_trusted_key_may_speak_for_itself_too() -> None:
    for headers in ({}, {HEADER: b""}):
        caller = who(headers)
        assert (caller.name, caller.user, caller.trusted) == ("master", "", True)


@given(st.binary(min_size=1, max_size=3 * USER_CHARS_MAX), st.binary(min_size=1, max_size=8))
def test_users_are_told_apart_and_bounded(one: bytes, other: bytes) -> None:
    names = [who({HEADER: user}, "k").name for user in (one, other)]
    assert all(len(name) <= USER_CHARS_MAX + 2 for name in names)
    assert (names[0] == names[1]) == (one[:USER_CHARS_MAX] == other[:USER_CHARS_MAX])


@pytest.mark.parametrize("priority", Priority)
def test_priorities_by_their_names(priority: Priority) -> None:
    for word in (priority.name.lower(), priority.name, priority.name.title()):
        assert who({b"x-arriero-priority": word.encode()}).priority is priority
    assert who({}).priority is None


@given(st.binary(max_size=20))
def test_a_priority_that_does_not_exist_is_a_mistake(word: bytes) -> None:
    if word.lower() in {priority.name.lower().encode() for priority in Priority}:
        return
    with pytest.raises(BadRequest) as caught:
        who({b"x-arriero-priority": word})
    assert "interactive, default, embedding, background" in caught.value.text


@pytest.mark.parametrize(
    "header",
    [b"x-openwebui-chat-id", b"x-claude-code-session-id", b"x-session-id", b"session-id"],
)
def test_conversations_by_what_clients_say(header: bytes) -> None:
    assert who({header: b"c1"}, "p").session == "p:c1"
    assert who({header: b"c1"}, "q").session != "p:c1"
    assert who({header: b"c1", HEADER: b"u"}, "p").session == "p/u:c1"
    assert who({header: b""}, "p").session == ""
    assert len(who({header: b"x" * 5000}, "p").session) < 200


def test_without_a_hint_there_is_no_conversation() -> None:
    assert who({b"x-other": b"c1"}).session == ""


def test_the_task_of_open_webui() -> None:
    assert who({b"x-task": b"title_generation"}).task == b"title_generation"
    assert who({}).task == b""
