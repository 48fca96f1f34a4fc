"""Single requests as the store keeps them, by the page, and the sums of their days.

One row of a table for each request costs most of what writing usage costs, in the database and in
its index. So what is written at once goes into a few pages, each of them a JSON array of requests.
What is settled together is a batch, of which pages are put together.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from arriero.core.limits import day_of
from arriero.store.port import StoreError, UsageBatch, UsagePlace, UsageQuery, UsageRow

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


def batches(rows: Sequence[UsageRow]) -> Iterator[UsageBatch]:
    """Return these requests in their order, as they will be written."""
    for at in range(0, len(rows), PAGE_ROWS):
        some = rows[at : at + PAGE_ROWS]
        times = [row.at_unix_s for row in some]
        yield UsageBatch(_encode(some)[1:-1], len(some), min(times), max(times), _sums(some))


def pages(written: Iterable[UsageBatch]) -> Iterator[dict[str, Any]]:
    """Return the columns of the pages that hold these requests, in their order."""
    page: list[UsageBatch] = []
    requests = 0
    for batch in written:
        if requests + batch.requests > PAGE_ROWS:
            yield _page(page, requests)
            page, requests = [], 0
        page.append(batch)
        requests += batch.requests
    if page:
        yield _page(page, requests)


def _page(written: list[UsageBatch], requests: int) -> dict[str, Any]:
    return {
        "first_at": min(batch.first_at for batch in written),
        "last_at": max(batch.last_at for batch in written),
        "requests": requests,
        "document": f"[{b','.join(batch.rows for batch in written).decode()}]",
    }


def _sums(rows: Sequence[UsageRow]) -> dict[UsagePlace, list[int]]:
    sums: dict[UsagePlace, list[int]] = {}
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
    return sums


def days(written: Iterable[UsageBatch]) -> list[dict[str, Any]]:
    """Return the sums of these requests by day and place.

    They are in one order everywhere, or two gateways would wait for each other's rows for ever.
    """
    sums: dict[UsagePlace, list[int]] = {}
    for batch in written:
        for place, more in batch.sums.items():
            before = sums.get(place)
            sums[place] = more if before is None else [*map(sum, zip(before, more, strict=True))]
    return [
        dict(zip(_PLACE, (day_of(place[0] * _DAY_S), *place[1:]), strict=True))
        | dict(zip(SUMS, added, strict=True))
        for place, added in sorted(sums.items())
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
