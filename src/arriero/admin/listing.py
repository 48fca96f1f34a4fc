"""`/key/list`: filters, order and pages, with LiteLLM's parameters."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from arriero.admin.calls import Asked, Nothing
from arriero.admin.desk import Desk
from arriero.admin.fields import LABELS
from arriero.admin.rows import KeyObject, fields_of, status_of
from arriero.base.errors import UnsupportedParameter
from arriero.core.keys import Key

SIZE_MAX: Final = 100
SortBy = Literal["created_at", "updated_at", "expires", "key_alias", "user_id", "token", "spend"]


class ListQuery(msgspec.Struct, frozen=True):
    """Which keys to list; `search` is an id or a part of an alias."""

    page: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    size: Annotated[int, Meta(ge=1, le=SIZE_MAX)] = 10
    user_id: str = ""
    team_id: str = ""
    organization_id: str = ""
    project_id: str = ""
    agent_id: str = ""
    key_hash: str = ""
    key_alias: str = ""
    search: str = ""
    status: Literal["active", "expired", "revoked", "deleted"] | None = None
    expires: Literal["active", "expired"] | None = None
    substring_matching: bool = False
    return_full_object: bool = False
    include_team_keys: bool = False
    include_created_by_keys: bool = False
    sort_by: SortBy = "created_at"
    sort_order: Literal["asc", "desc"] = "desc"
    expand: str = ""


class ListAnswer(msgspec.Struct):
    """One page of keys: their ids, or whole with `return_full_object`."""

    keys: list[str | KeyObject]
    total_count: int
    current_page: int
    total_pages: int


async def list_keys(desk: Desk, asked: Asked[ListQuery, Nothing]) -> ListAnswer:
    """List keys, page by page."""
    query = asked.query
    if query.status == "deleted":
        raise UnsupportedParameter(
            "deleted keys are not kept", param="status", hint="GET /audit?action=delete"
        )
    now_unix_s = desk.now_unix_s()
    keys = list(desk.ring)
    # A hundred thousand keys take a tenth of a second, for which the event loop has no time.
    found = await asyncio.to_thread(select, keys, query, now_unix_s)
    first = (query.page - 1) * query.size
    page = found[first : first + query.size]
    pages = -(-len(found) // query.size)
    shown: list[str | KeyObject] = [
        KeyObject(token=key.id, **fields_of(key, now_unix_s))
        if query.return_full_object or query.expand
        else key.id
        for key in page
    ]
    return ListAnswer(shown, len(found), query.page, pages)


def select(keys: list[Key], query: ListQuery, now_unix_s: float) -> list[Key]:
    """Return the keys that a query asks for, in its order."""
    tests = _tests(query, now_unix_s)
    found = [key for key in keys if all(test(key) for test in tests)]
    order = _ORDERS[query.sort_by]
    found.sort(key=lambda key: (order(key), key.id), reverse=query.sort_order == "desc")
    return found


def _tests(query: ListQuery, now_unix_s: float) -> list[Callable[[Key], bool]]:
    """Return what a key must be; what the query leaves out is no test."""
    tests = [
        _text(of, wanted, part=query.substring_matching)
        for of, wanted in ((_owner, query.user_id), (_alias, query.key_alias))
        if wanted
    ]
    tests += [_label(name, wanted) for name in LABELS if (wanted := getattr(query, name))]
    if query.key_hash:
        tests.append(lambda key: key.id == query.key_hash)
    if query.search:
        inside = _text(_alias, query.search, part=True)
        tests.append(lambda key: key.id == query.search or inside(key))
    if query.status is not None:
        tests.append(lambda key: status_of(key, now_unix_s) == query.status)
    if query.expires is not None:
        tests.append(lambda key: key.is_expired(now_unix_s) is (query.expires == "expired"))
    return tests


def _owner(key: Key) -> str:
    return key.owner


def _alias(key: Key) -> str:
    return key.alias


def _text(of: Callable[[Key], str], wanted: str, *, part: bool) -> Callable[[Key], bool]:
    if not part:
        return lambda key: of(key) == wanted
    folded = wanted.casefold()
    return lambda key: folded in of(key).casefold()


def _label(name: str, wanted: str) -> Callable[[Key], bool]:
    return lambda key: key.labels is not None and key.labels.get(name) == wanted


_ORDERS: Final[dict[SortBy, Callable[[Key], Any]]] = {
    "created_at": lambda key: key.created_unix_s,
    "updated_at": lambda key: key.updated_unix_s,
    "expires": lambda key: key.expires_unix_s or float("inf"),
    "key_alias": _alias,
    "user_id": _owner,
    "token": lambda key: key.id,
    "spend": lambda _: 0,
}
