"""The store in SQL that both databases speak; what differs is in `sqlite` and `postgres`.

A key is kept as one JSON document with the columns that must be unique beside it: searching is done
in memory (`core.keys.KeyRing`), and a new field of `Key` needs no new column. Every change of a key
writes a line into `key_changes` in the same transaction, by which other gateways notice it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from itertools import islice
from typing import Any, Protocol

import msgspec

from arriero.core.keys import Key, Sharer
from arriero.store import usage
from arriero.store.port import (
    AuditEntry,
    Changes,
    KeyUnreadable,
    UsageBatch,
    UsageDay,
    UsageField,
    UsageQuery,
    UsageRow,
)

Row = Sequence[Any]
Params = Mapping[str, Any]


class _Named(msgspec.Struct):
    id: str


_key = msgspec.json.Decoder(Key)
_named = msgspec.json.Decoder(_Named)
_encode = msgspec.json.Encoder().encode

_PUT_KEY = """
insert into keys (id, digest, alias, document) values (:id, :digest, :alias, :document)
on conflict (id) do update
set digest = excluded.digest, alias = excluded.alias, document = excluded.document
"""
_PAGE = "select document from keys where id > :after order by id limit :rows_max"
PAGE_ROWS = 2_000
_ADD_AUDIT = """
insert into audit (at, actor, action, key_id, detail, client)
values (:at, :actor, :action, :key_id, :detail, :client)
"""
_CHANGED = """
select key_changes.seq, key_changes.key_id, keys.document
from key_changes left join keys on keys.id = key_changes.key_id
where key_changes.seq > :seq order by key_changes.seq
"""
_AUDIT = """
select at, actor, action, key_id, detail, client, seq from audit
where (:key_id = '' or key_id = :key_id) and (:before = 0 or seq < :before)
order by seq desc limit :rows_max
"""
_ADD_PAGE = """
insert into usage_pages (first_at, last_at, requests, document)
values (:first_at, :last_at, :requests, :document)
"""
_ADD_DAY = """
insert into usage_days (day, key_id, user_name, alias, backend, requests, failures, prompt_tokens,
  cached_tokens, completion_tokens)
values (:day, :key_id, :user, :alias, :backend, :requests, :failures, :prompt_tokens,
  :cached_tokens, :completion_tokens)
on conflict (day, key_id, user_name, alias, backend) do update set
  requests = usage_days.requests + excluded.requests,
  failures = usage_days.failures + excluded.failures,
  prompt_tokens = usage_days.prompt_tokens + excluded.prompt_tokens,
  cached_tokens = usage_days.cached_tokens + excluded.cached_tokens,
  completion_tokens = usage_days.completion_tokens + excluded.completion_tokens
"""
_NARROW = """
(:key_id = '' or key_id = :key_id) and (:user = '' or user_name = :user)
and (:alias = '' or alias = :alias) and (:backend = '' or backend = :backend)
"""
_DAYS = f"""
from usage_days
where (:first_day = '' or day >= :first_day) and (:last_day = '' or day <= :last_day) and {_NARROW}
"""
# By number, and no other way: an index on the times would have all documents sorted.
_PAGES = """
select seq, document from usage_pages
where seq < :before and last_at >= :first_at and first_at < :end_at
order by seq desc limit :pages_max
"""
_COUNT_OLD = "select coalesce(sum(requests), 0) from usage_pages where last_at < :at"
PAGES_AT_ONCE = 16  # 1.5 MB when they are full


class Database(Protocol):
    """A connection, with the differences of its kind behind it."""

    def transaction(self) -> AbstractContextManager[None]:
        """Write within: committed at its end, undone by an exception. Writers take turns."""
        ...

    def run(self, statement: str, params: Params) -> None:
        """Execute a statement with `:name` parameters."""
        ...

    def run_many(self, statement: str, params: Iterable[Params]) -> None:
        """Execute a statement once for each of `params`."""
        ...

    def rows(self, statement: str, params: Params) -> list[Row]:
        """Return the rows of a query."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


class SqlStore:
    """A `Store` on any `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pepper(self, candidate: bytes) -> bytes:
        """Return the installation's pepper; the first caller's candidate becomes it."""
        database = self._database
        with database.transaction():
            database.run(
                "insert into meta (name, value) values ('pepper', :value) on conflict do nothing",
                {"value": candidate},
            )
            ((value,),) = database.rows("select value from meta where name = 'pepper'", {})
        return bytes(value)

    # -- keys

    def load_keys(self) -> Changes:
        """Return every key."""
        with self._database.transaction():  # so that no change falls between
            return Changes(self._seq(), tuple(self._all_keys()))

    def _all_keys(self) -> Iterator[Key]:
        """A page at a time: all documents at once would take as much again as the keys."""
        after = ""
        share = Sharer()
        while page := self._database.rows(_PAGE, {"after": after, "rows_max": PAGE_ROWS}):
            for (document,) in page:
                yield share.lean(_read_key(document))
            after = _read_key(page[-1][0]).id

    def changes_since(self, seq: int) -> Changes:
        """Return what changed after `seq`, also by other gateways."""
        changed: dict[str, Key] = {}
        removed: dict[str, None] = {}
        for number, key_id, document in self._database.rows(_CHANGED, {"seq": seq}):
            seq = number
            if document is None:
                changed.pop(key_id, None)
                removed[key_id] = None
            else:
                changed[key_id] = _read_key(document)
        return Changes(seq, tuple(changed.values()), tuple(removed))

    def put_key(self, key: Key, entry: AuditEntry) -> int:
        """Write a key and its audit entry together; return the new seq. Raises KeyConflict."""
        with self._database.transaction():
            return self._put(key, entry)

    def change_key(
        self, key_id: str, change: Callable[[Key], tuple[Key, AuditEntry]]
    ) -> Key | None:
        """Write what `change` makes of a key as it is now, nobody else changing it meanwhile.

        Writers take turns, so what is read within the transaction cannot be another's old one.
        None: there is no such key. Raises KeyConflict, and what `change` raises.
        """
        with self._database.transaction():
            found = self._database.rows("select document from keys where id = :id", {"id": key_id})
            if not found:
                return None
            key, entry = change(_read_key(found[0][0]))
            self._put(key, entry)
        return key

    def _put(self, key: Key, entry: AuditEntry) -> int:
        document = _encode(key).decode()
        fields = {"id": key.id, "digest": key.digest, "alias": key.alias or None}
        self._database.run(_PUT_KEY, {**fields, "document": document})
        return self._changed(entry)

    def remove_key(self, key_id: str, entry: AuditEntry) -> int:
        """Remove a key, with its audit entry; return the new seq."""
        with self._database.transaction():
            self._database.run("delete from keys where id = :id", {"id": key_id})
            return self._changed(entry)

    def _changed(self, entry: AuditEntry) -> int:
        self._database.run(
            _ADD_AUDIT,
            {
                "at": entry.at_unix_s,
                "actor": entry.actor,
                "action": entry.action,
                "key_id": entry.key_id,
                "detail": entry.detail.decode(),
                "client": entry.client,
            },
        )
        self._database.run(
            "insert into key_changes (key_id) values (:key_id)", {"key_id": entry.key_id}
        )
        return self._seq()

    def _seq(self) -> int:
        ((seq,),) = self._database.rows("select coalesce(max(seq), 0) from key_changes", {})
        return int(seq)

    def audit(
        self, *, key_id: str = "", before_seq: int = 0, rows_max: int = 100
    ) -> list[AuditEntry]:
        """Return audit entries, the newest first."""
        params = {"key_id": key_id, "before": before_seq, "rows_max": rows_max}
        return [
            AuditEntry(at, actor, action, of, detail.encode(), client, seq)
            for at, actor, action, of, detail, client, seq in self._database.rows(_AUDIT, params)
        ]

    # -- usage

    def add_usage(self, batch: UsageBatch) -> None:
        """Write requests and add them to their days, all or nothing."""
        pages, days = usage.pages(batch), usage.days(batch)
        with self._database.transaction():
            self._database.run_many(_ADD_PAGE, pages)
            self._database.run_many(_ADD_DAY, days)

    def usage_days(self, query: UsageQuery) -> list[UsageDay]:
        """Return usage by day."""
        found = self._database.rows(_summing(query.group_by), _params(query))
        return [UsageDay(*row) for row in found]

    def usage_requests(self, query: UsageQuery) -> list[UsageRow]:
        """Return single requests, the newest first, as far back as they are kept."""
        return list(islice(self._requests(usage.Narrowing(query)), query.rows_max))

    def _requests(self, narrowing: usage.Narrowing) -> Iterator[UsageRow]:
        """A few pages at a time, so that memory stays bounded."""
        params = {
            "first_at": narrowing.first_at,
            "end_at": narrowing.end_at,
            "before": narrowing.before_seq // usage.SEQ_STEP + 1,
            "pages_max": PAGES_AT_ONCE,
        }
        while pages := self._database.rows(_PAGES, params):
            for seq, document in pages:
                yield from narrowing.found(seq, document)
            params["before"] = pages[-1][0]

    def prune(self, before_unix_s: float) -> int:
        """Forget single requests of before that moment; return how many. Days are kept."""
        params = {"at": before_unix_s}
        with self._database.transaction():
            ((count,),) = self._database.rows(_COUNT_OLD, params)
            self._database.run("delete from usage_pages where last_at < :at", params)
        return int(count)

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()


def _read_key(document: str) -> Key:
    """Return a stored key. Raises KeyUnreadable, which names it and shows nothing else of it."""
    try:
        return _key.decode(document)
    except msgspec.MsgspecError as error:
        raise KeyUnreadable(
            f"the stored key {_name_in(document)} cannot be read: {error}",
            "serve with the version of arriero that wrote it, or restore a backup",
        ) from error


def _name_in(document: str) -> str:
    try:
        return _named.decode(document).id
    except msgspec.MsgspecError:
        return "?"


def _params(query: UsageQuery) -> dict[str, Any]:
    params = msgspec.structs.asdict(query)
    del params["group_by"]  # is in the statement
    return params


@cache
def _summing(group_by: tuple[UsageField, ...]) -> str:
    """Return the query for sums that are told apart by these fields."""
    told = [column if name in group_by else f"'' as {column}" for name, column in _COLUMNS.items()]
    sums = [f"cast(sum({name}) as bigint)" for name in usage.SUMS]  # PostgreSQL makes it a numeric
    columns = ", ".join(column for name, column in _COLUMNS.items() if name in group_by)
    # Without columns there is one sum, of nothing even when there is nothing.
    by = f"group by {columns} order by {columns}" if columns else "having count(*) > 0"
    return f"select {', '.join(told + sums)} {_DAYS} {by} limit :rows_max"


_COLUMNS: dict[UsageField, str] = {
    "day": "day",
    "key_id": "key_id",
    "user": "user_name",
    "alias": "alias",
    "backend": "backend",
}
