"""Single requests as the store keeps them, by the page, and the sums of their days.

One row of a table for each request costs most of what writing usage costs, in the database and in
its index. So what is written at once goes into a few pages, each of them a JSON array of requests.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from arriero.core.limits import day_of
from arriero.store.port import (
    StoreError,
    UsageBatch,
    UsagePage,
    UsagePlace,
    UsageQuery,
    UsageRow,
)

# Encoding one page takes a tenth of a millisecond, for which the event loop's thread waits.
PAGE_ROWS = 500
SEQ_STEP = 1024  # a request's number is its page's times this, and its place in the page
SUMS = ("requests", "failures", "prompt_tokens", "cached_tokens", "completion_tokens")
_PLACE = ("day", "key_id", "user", "alias", "backend")
_DAY_S = 86_400.0
_FOR_EVER_UNIX_S = 253_402_300_800.0  # the year 10000
_SEQ_MAX = 1 << 62

_encode = msgspec.json.Encoder().encode
_rows = msgspec.json.Decoder(list[UsageRow])


def add(batch: UsageBatch, rows: Sequence[UsageRow]) -> None:
    """Let these requests be written with those of a batch, after them."""
    for at in range(0, len(rows), PAGE_ROWS):
        some = rows[at : at + PAGE_ROWS]
        times = [row.at_unix_s for row in some]
        page = UsagePage([_encode(some)[1:-1]], len(some), min(times), max(times))
        if batch.pages and batch.pages[-1].requests + page.requests <= PAGE_ROWS:
            _extend(batch.pages[-1], page)
        else:
            batch.pages.append(page)
    _add_up(batch.sums, rows)
    batch.requests += len(rows)


def join(batch: UsageBatch, later: UsageBatch) -> None:
    """Let the requests of another batch be written with those of this one, after them."""
    batch.pages += later.pages
    for place, more in later.sums.items():
        before = batch.sums.setdefault(place, [0] * len(SUMS))
        before[:] = map(int.__add__, before, more)
    batch.requests += later.requests


def _extend(page: UsagePage, later: UsagePage) -> None:
    page.rows += later.rows
    page.requests += later.requests
    page.first_at = min(page.first_at, later.first_at)
    page.last_at = max(page.last_at, later.last_at)


def _add_up(sums: dict[UsagePlace, list[int]], rows: Sequence[UsageRow]) -> None:
    for row in rows:
        place = row.at_unix_s // _DAY_S, row.key_id, row.user, row.alias, row.backend
        added = sums.get(place)
        if added is None:
            added = sums[place] = [0, 0, 0, 0, 0]
        added[0] += 1
        added[1] += row.outcome != "ok"
        added[2] += row.prompt_tokens
        added[3] += row.cached_tokens
        added[4] += row.completion_tokens


def pages(batch: UsageBatch) -> list[dict[str, Any]]:
    """Return the columns of the pages that hold these requests, in their order."""
    return [
        {
            "first_at": page.first_at,
            "last_at": page.last_at,
            "requests": page.requests,
            "document": f"[{b','.join(page.rows).decode()}]",
        }
        for page in batch.pages
    ]


def days(batch: UsageBatch) -> list[dict[str, Any]]:
    """Return the sums of these requests by day and place.

    They are in one order everywhere, or two gateways would wait for each other's rows for ever.
    """
    return [
        dict(zip(_PLACE, (day_of(place[0] * _DAY_S), *place[1:]), strict=True))
        | dict(zip(SUMS, added, strict=True))
        for place, added in sorted(batch.sums.items())
    ]


class Narrowing:
    """Which requests a query asks for, of which pages."""

    def __init__(self, query: UsageQuery) -> None:
        self.first_at = _day_start(query.first_day) if query.first_day else 0.0
        self.end_at = _day_start(query.last_day) + _DAY_S if query.last_day else _FOR_EVER_UNIX_S
        self.before_seq = min(query.before_seq or _SEQ_MAX, _SEQ_MAX)
        named = {
            "key_id": query.key_id,
            "user": query.user,
            "alias": query.alias,
            "backend": query.backend,
        }
        self._named = [(name, value) for name, value in named.items() if value]
        # As they stand in a page: looking for them takes a quarter of reading it.
        self._words = [_encode(value).decode() for _, value in self._named]

    def found(self, page_seq: int, document: str) -> Iterator[UsageRow]:
        """Return those of a page, the last one first. Raises StoreError."""
        if not all(word in document for word in self._words):
            return
        seq = page_seq * SEQ_STEP
        for place, row in reversed(list(enumerate(_read(page_seq, document)))):
            if seq + place < self.before_seq and self._is_asked_for(row):
                yield msgspec.structs.replace(row, seq=seq + place)

    def _is_asked_for(self, row: UsageRow) -> bool:
        if not self.first_at <= row.at_unix_s < self.end_at:
            return False
        return all(getattr(row, name) == value for name, value in self._named)


def _read(page_seq: int, document: str) -> list[UsageRow]:
    try:
        return _rows.decode(document)
    except msgspec.MsgspecError as error:
        raise StoreError(
            f"page {page_seq} of usage_pages cannot be read: {error}",
            "restore a backup, or delete that page",
        ) from error


def _day_start(day: str) -> float:
    return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
