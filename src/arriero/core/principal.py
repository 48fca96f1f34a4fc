"""On whose account a request is: a key, or the person whom a trusted key names.

All of it follows from a request's head, so that it need not be found again for a head that comes
again.
"""

from collections.abc import Mapping
from enum import IntEnum

import msgspec

from arriero.base.errors import BadRequest
from arriero.core.keys import Key

USER_CHARS_MAX = 128  # Open WebUI's ids are UUIDs; a longer name is cut, not refused
SESSION_CHARS_MAX = 128
PRIORITY_HEADER = b"x-arriero-priority"
TASK_HEADER = b"x-task"
# Open WebUI's chat, Claude Code's session, Codex's, and what proxies and people use.
_SESSION_HEADERS = (
    b"x-openwebui-chat-id",
    b"x-claude-code-session-id",
    b"x-session-id",
    b"session-id",
)


class Priority(IntEnum):
    """The classes of the queue, the most urgent first."""

    INTERACTIVE = 0  # somebody watches the answer appear
    DEFAULT = 1
    EMBEDDING = 2  # one upload of a document is hundreds of these
    BACKGROUND = 3  # nobody waits for it


_BY_NAME = {priority.name.lower().encode(): priority for priority in Priority}


class Caller(msgspec.Struct, gc=False, frozen=True):
    """Who asks, and what the head tells about the request.

    `name` is what fairness counts by: the key, and behind it the user (no key's name has a slash in
    it). `session` names the conversation if the client told it, so that its turns can go where the
    earlier ones are still in the cache; it is unique to the principal. `task` is Open WebUI's name
    for a request of its own.
    """

    key: str
    user: str = ""  # named by a trusted key; empty: the key speaks for itself
    name: str = ""
    trusted: bool = False  # the key may speak for others
    priority: Priority | None = None  # as the client wants it
    session: str = ""
    task: bytes = b""
    most_urgent: Priority = Priority.INTERACTIVE  # that the key may be


def identify(headers: Mapping[bytes, bytes], key: Key, user_header: bytes) -> Caller:
    """Return who sent a request that came with `key`. Raises BadRequest on an unknown priority.

    `user_header` is a header's name in lower case, such as `x-openwebui-user-id`. It counts behind
    a trusted key only: anybody else could take a new name for each request, and with it a new
    newcomer's place in the queue.
    """
    user = ""
    if key.trusted:
        user = headers.get(user_header, b"")[:USER_CHARS_MAX].decode("latin-1")
    name = f"{key.id}/{user}" if user else key.id
    return Caller(
        key.id,
        user,
        name,
        key.trusted,
        _priority(headers.get(PRIORITY_HEADER)),
        _session(headers, name),
        headers.get(TASK_HEADER, b""),
        _BY_NAME.get(key.priority.encode(), Priority.INTERACTIVE),
    )


def _priority(word: bytes | None) -> Priority | None:
    """Return the class of that name: a misspelt `background` would silently be in the way."""
    if word is None:
        return None
    priority = _BY_NAME.get(word.lower())
    if priority is None:
        raise BadRequest(
            "the header `x-arriero-priority` is none of the priority classes",
            param="x-arriero-priority",
            hint=f"one of {', '.join(name.decode() for name in _BY_NAME)}",
        )
    return priority


def _session(headers: Mapping[bytes, bytes], principal: str) -> str:
    for name in _SESSION_HEADERS:
        value = headers.get(name)
        if value:
            return session_name(principal, value.decode("latin-1"))
    return ""


def session_name(principal: str, told: str) -> str:
    """Return a conversation's name as told by a client; nobody else can mean the same one."""
    return f"{principal}:{told[:SESSION_CHARS_MAX]}"
