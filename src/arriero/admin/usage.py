"""Usage as the store has it: sums by day and what else is asked for, and single requests."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta

from arriero.admin.calls import Asked, Nothing, Text
from arriero.admin.desk import Desk
from arriero.admin.fields import masked
from arriero.admin.rows import rfc3339
from arriero.base.errors import BadRequest, Forbidden
from arriero.config.suggest import hint
from arriero.core.access import MASTER_ID
from arriero.core.keys import KeyRing
from arriero.store.port import UsageDay, UsageField, UsageQuery, UsageRow

ROWS_MAX: Final = 10_000
Format = Literal["json", "csv"]
Group = Literal["day", "key", "user", "model", "backend"]
_FIELDS: Final[dict[Group, UsageField]] = {
    "day": "day",
    "key": "key_id",
    "user": "user",
    "model": "alias",
    "backend": "backend",
}
_DAY = Annotated[str, Meta(pattern=r"^(\d{4}-\d{2}-\d{2})?$")]


class UsageAsked(msgspec.Struct, frozen=True, kw_only=True):
    """Which usage: days are UTC's and both included, `key` is an id, an alias or a secret."""

    start_date: _DAY = ""
    end_date: _DAY = ""
    key: str = ""
    user: str = ""
    model: str = ""
    backend: str = ""
    format: Format | None = None
    limit: Annotated[int, Meta(ge=1, le=ROWS_MAX)] = 1000


class SumsAsked(UsageAsked, frozen=True, kw_only=True):
    """Sums; `group_by` is some of day, key, user, model and backend, with commas between."""

    group_by: str = "day"


class RequestsAsked(UsageAsked, frozen=True, kw_only=True):
    """Single requests, the newest first; `before` is the `next` of an answer, to go on there."""

    before: Annotated[int, Meta(ge=0)] = 0


class Sum(msgspec.Struct):
    """What was used; a field that was not grouped by is empty."""

    day: str
    key: str
    key_alias: str
    user: str
    model: str
    backend: str
    requests: int
    failures: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    total_tokens: int


class SumsAnswer(msgspec.Struct):
    """Sums; `complete` says whether the limit left nothing out."""

    usage: list[Sum]
    complete: bool


class UsedRequest(msgspec.Struct):
    """One request and what it used. Times are seconds; `first_token_s` is null without a token."""

    request_id: str
    time: str | None
    key: str
    key_alias: str
    user: str
    model: str
    backend: str
    backend_model: str
    operation: str
    outcome: str
    status: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    queue_s: float
    first_token_s: float | None
    duration_s: float


class RequestsAnswer(msgspec.Struct):
    """Single requests; `next` is for `before`, and null at the end."""

    requests: list[UsedRequest]
    next: int | None


UsageCall: TypeAlias = Asked[SumsAsked, Nothing] | Asked[RequestsAsked, Nothing]


async def usage(desk: Desk, asked: Asked[SumsAsked, Nothing]) -> SumsAnswer | Text:
    """Add up what was used, by day and what else is asked for."""
    query = _query(desk, asked, group_by=_groups(asked.query.group_by))
    ring = desk.ring
    found = await desk.ask(lambda store: store.usage_days(query))
    complete = len(found) < query.rows_max
    sums = [_sum(one, ring) for one in found[: asked.query.limit]]
    if not wants_csv(asked):
        return SumsAnswer(sums, complete)
    return table(sums, Sum, {"x-arriero-complete": "true" if complete else "false"})


async def requests(desk: Desk, asked: Asked[RequestsAsked, Nothing]) -> Text:
    """List single requests, as far back as they are kept."""
    query = _query(desk, asked, before_seq=asked.query.before)
    as_csv, limit, ring = wants_csv(asked), asked.query.limit, desk.ring

    def answer(rows: list[UsageRow]) -> Text:
        shown = [_request(row, ring) for row in rows[:limit]]
        last = rows[limit - 1].seq if len(rows) > limit else None
        if as_csv:
            return table(shown, UsedRequest, {"x-arriero-next": str(last)} if last else {})
        return Text(msgspec.json.encode(RequestsAnswer(shown, last)))

    # Written out in the store's thread: ten thousand rows would hold up the event loop.
    return await desk.ask(lambda store: answer(store.usage_requests(query)))


def wants_csv(asked: UsageCall) -> bool:
    """Say whether the caller wants a table: by `format`, else by `Accept`."""
    wanted = asked.query.format
    return wanted == "csv" if wanted is not None else "text/csv" in asked.accept


def table(
    rows: Sequence[msgspec.Struct], kind: type[msgspec.Struct], headers: dict[str, str]
) -> Text:
    """Return rows as CSV (RFC 4180) with a line of names; `headers` say what else JSON says."""
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(kind.__struct_fields__)
    for row in rows:
        writer.writerow(harmless(msgspec.structs.astuple(row)))
    return Text(written.getvalue().encode(), "text/csv; charset=utf-8", headers)


def harmless(values: Iterable[object]) -> list[object]:
    """Keep a spreadsheet from taking a name for a formula (OWASP, CSV injection)."""
    return [
        f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value
        for value in values
    ]


def _query(
    desk: Desk,
    asked: UsageCall,
    *,
    group_by: tuple[UsageField, ...] = (),
    before_seq: int = 0,
) -> UsageQuery:
    query = asked.query
    return UsageQuery(
        first_day=query.start_date,
        last_day=query.end_date,
        key_id=_key_id(desk, asked),
        user=query.user,
        alias=query.model,
        backend=query.backend,
        rows_max=query.limit + 1,  # one more tells whether there are more
        group_by=group_by,
        before_seq=before_seq,
    )


def _key_id(desk: Desk, asked: UsageCall) -> str:
    """Return whose usage is shown: everybody's, one key's, and a user's key its own."""
    wanted = asked.query.key
    if not asked.sees_all:
        if wanted not in ("", asked.by.id, asked.by.alias):
            raise Forbidden("this key may see its own usage, and no other", hint="leave `key` out")
        return asked.by.id
    if not wanted or wanted == MASTER_ID:
        return wanted
    if wanted.startswith("key-") and desk.ring.by_alias(wanted) is None:
        return wanted  # perhaps of a key that is gone
    return desk.find(wanted).id


def _groups(text: str) -> tuple[UsageField, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in _FIELDS:
            raise BadRequest(
                f"group_by: there is nothing called {masked(name)!r}",
                param="group_by",
                hint=hint(name, get_args(Group)),
            )
    return tuple(field for name, field in _FIELDS.items() if name in names)


def _alias(ring: KeyRing, key_id: str) -> str:
    key = ring.get(key_id)
    return key.alias if key is not None else ""


def _sum(day: UsageDay, ring: KeyRing) -> Sum:
    return Sum(
        day=day.day,
        key=day.key_id,
        key_alias=_alias(ring, day.key_id),
        user=day.user,
        model=day.alias,
        backend=day.backend,
        requests=day.requests,
        failures=day.failures,
        prompt_tokens=day.prompt_tokens,
        cached_tokens=day.cached_tokens,
        completion_tokens=day.completion_tokens,
        total_tokens=day.prompt_tokens + day.completion_tokens,
    )


def _request(row: UsageRow, ring: KeyRing) -> UsedRequest:
    return UsedRequest(
        request_id=row.request_id,
        time=rfc3339(row.at_unix_s),
        key=row.key_id,
        key_alias=_alias(ring, row.key_id),
        user=row.user,
        model=row.alias,
        backend=row.backend,
        backend_model=row.model,
        operation=row.operation,
        outcome=row.outcome,
        status=row.status,
        prompt_tokens=row.prompt_tokens,
        cached_tokens=row.cached_tokens,
        completion_tokens=row.completion_tokens,
        queue_s=round(row.queue_s, 6),
        first_token_s=round(row.first_token_s, 6) if row.first_token_s >= 0 else None,
        duration_s=round(row.duration_s, 6),
    )
