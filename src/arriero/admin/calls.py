"""One call of the key API: what it is declared as, who may make it, and what it said."""

from collections.abc import Awaitable, Callable
from typing import Any, Generic, Literal, TypeVar

import msgspec

from arriero.admin.desk import Desk
from arriero.base.errors import Forbidden
from arriero.core.keys import Key

QueryT = TypeVar("QueryT", bound=msgspec.Struct)
BodyT = TypeVar("BodyT", bound=msgspec.Struct)

# Who may: administrators; also keys that look at everything; also every key, for what is its own.
Access = Literal["admin", "look", "own"]


class Nothing(msgspec.Struct, frozen=True):
    """A call without a query, or without a body."""


class Asked(msgspec.Struct, Generic[QueryT, BodyT], frozen=True):
    """What somebody sent. `named` is the key that the path names, if it does."""

    by: Key
    client: str
    query: QueryT
    body: BodyT
    named: str = ""
    accept: str = ""

    @property
    def sees_all(self) -> bool:
        """Whether the caller may look at other keys than its own."""
        return self.by.role != "user"


class Text(msgspec.Struct, frozen=True):
    """An answer that is no struct: bytes as they are sent."""

    content: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = {}


Answered = msgspec.Struct | Text | dict[str, Any]


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One path of the API, as it is served and described."""

    path: str
    method: Literal["GET", "POST"]
    access: Access
    handle: Callable[[Desk, Any], Awaitable[Answered]]
    query: type[msgspec.Struct] = Nothing
    body: type[msgspec.Struct] = Nothing
    answer: type[msgspec.Struct] | None = None

    @property
    def summary(self) -> str:
        """The first line of the handler's docstring, without its full stop."""
        return (self.handle.__doc__ or "").strip().partition("\n")[0].rstrip(".")


def check_access(key: Key, access: Access) -> None:
    """Let a key make a call of this kind. Raises Forbidden, the same whatever it asked about."""
    if key.role == "admin" or access == "own":
        return
    if key.role == "read_only" and access == "look":
        return
    if access == "look":
        raise Forbidden("this key may see itself, and no other", hint="GET /key/info")
    raise Forbidden("this key may not change keys", hint="ask with an administrator's key")
