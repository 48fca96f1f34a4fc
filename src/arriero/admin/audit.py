"""Who changed which key, when, from where and in which fields."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from arriero.admin.calls import Asked, Nothing
from arriero.admin.desk import Desk
from arriero.admin.rows import rfc3339
from arriero.store.port import AuditEntry

ROWS_MAX: Final = 1000


class AuditQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which changes, the newest first; `before` is the `next` of an answer, to go on there."""

    key: str = ""
    before: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=1, le=ROWS_MAX)] = 100


class Entry(msgspec.Struct):
    """One change. `actor` is a key's id, `master`, or `local:NAME` for somebody on the host."""

    seq: int
    time: str | None
    actor: str
    action: str
    key: str
    detail: msgspec.Raw
    client: str


class AuditAnswer(msgspec.Struct):
    """Changes of keys; `next` is for `before`, and null at the end."""

    entries: list[Entry]
    next: int | None


async def audit(desk: Desk, asked: Asked[AuditQuery, Nothing]) -> AuditAnswer:
    """List the changes of keys."""
    query = asked.query
    named = query.key
    found = desk.ring.by_alias(named)
    key_id = found.id if found is not None else named  # perhaps of a key that is gone
    entries: list[AuditEntry] = await desk.ask(
        lambda store: store.audit(key_id=key_id, before_seq=query.before, rows_max=query.limit + 1)
    )
    shown = [_entry(one) for one in entries[: query.limit]]
    return AuditAnswer(shown, shown[-1].seq if len(entries) > query.limit else None)


def _entry(one: AuditEntry) -> Entry:
    return Entry(
        seq=one.seq,
        time=rfc3339(one.at_unix_s),
        actor=one.actor,
        action=one.action,
        key=one.key_id,
        detail=msgspec.Raw(one.detail),
        client=one.client,
    )
