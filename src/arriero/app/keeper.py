"""The keys in memory and the store beside it: loaded, followed, changed, and usage written.

Serving asks the ring only. The store's thread is asked at the start, when a key changes, and twice
a second for what other gateways changed and to write what was used. When the store cannot be
reached, the gateway goes on with the keys it knows, keeps what is to be written up to a limit, and
says so; changes of keys are refused meanwhile.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TypeVar

from arriero.base.clock import Clock
from arriero.config.settings import Store as StoreSettings
from arriero.core.keys import Key, KeyRing
from arriero.core.limits import Limiter, day_of
from arriero.core.record import Record
from arriero.store import usage
from arriero.store.port import (
    AuditEntry,
    Changes,
    Store,
    StoreError,
    UsageBatch,
    UsageDay,
    UsageQuery,
    UsageRow,
)
from arriero.store.thread import StoreThread

INTERVAL_S = 0.5  # between two looks: a key that another gateway revokes stops within a second
PENDING_MAX = 200_000  # requests to be written; about 40 MB while the store is away
USAGE_ROWS_MAX = 1_000_000  # of a month, read at the start
PEPPER_BYTES = 32
STORE_FILE = "arriero.db"  # in the state directory
PRUNE_INTERVAL_S = 3600.0
DAY_S = 86_400.0

T = TypeVar("T")

_log = logging.getLogger("arriero.store")


class Keeper:
    """A store at work."""

    def __init__(self, thread: StoreThread, ring: KeyRing, seq: int, clock: Clock) -> None:
        self._thread = thread
        self._clock = clock
        self._seq = seq  # of the last change of a key that the ring has seen
        self._pending = UsageBatch()
        self._pending_count = 0  # of it, and of what is being written
        self._pruned_s = -PRUNE_INTERVAL_S
        self.ring = ring
        self.is_up = True
        self.prunes = True  # forgets old usage; one of several workers does
        self.dropped = 0  # requests whose usage was lost
        self.hurry: Callable[[], None] = lambda: None  # has what was settled handed to `take`

    @classmethod
    async def open(cls, url: str, pepper: bytes, clock: Clock) -> Self:
        """Open the store at `url` and load its keys. Raises StoreError.

        `pepper` are random bytes, which a new installation takes for its own.
        """
        thread = await StoreThread.open(url)

        def load(store: Store) -> tuple[bytes, Changes]:
            return store.pepper(pepper), store.load_keys()

        own_pepper, loaded = await thread.call(load)
        ring = KeyRing(own_pepper, loaded.changed)
        ring.expire(clock.unix_s())
        return cls(thread, ring, loaded.seq, clock)

    # -- changes of keys

    async def put(self, key: Key, entry: AuditEntry) -> None:
        """Write a key, then let it be used. Raises KeyConflict, StoreUnavailable."""
        await self._thread.call(lambda store: store.put_key(key, entry))
        self.ring.put(key)
        self.ring.expire(self._clock.unix_s())

    async def change(
        self, key_id: str, change: Callable[[Key], tuple[Key, AuditEntry]]
    ) -> Key | None:
        """Write what `change` makes of a key in the store, then let that be used.

        None: it is not there any more. Raises KeyConflict, StoreUnavailable, and what `change`
        raises, which runs in the store's thread.
        """
        key = await self._thread.call(lambda store: store.change_key(key_id, change))
        if key is None:
            self.ring.remove(key_id)
        else:
            self.ring.put(key)
            self.ring.expire(self._clock.unix_s())
        return key

    async def remove(self, key_id: str, entry: AuditEntry) -> None:
        """Forget a key at once, and in the store. Raises StoreUnavailable."""
        await self._thread.call(lambda store: store.remove_key(key_id, entry))
        self.ring.remove(key_id)

    async def follow(self) -> None:
        """Take over what others changed until now. Raises StoreError."""
        seq = self._seq
        news = await self._thread.call(lambda store: store.changes_since(seq))
        if news.seq == seq:
            return
        for key in news.changed:
            self.ring.put(key)
        for key_id in news.removed:
            self.ring.remove(key_id)
        self.ring.expire(self._clock.unix_s())
        self._seq = news.seq

    async def look(self) -> None:
        """Take over what others changed until now, unless the store is away."""
        if not self.is_up:
            return
        try:
            await self.follow()
        except StoreError as error:
            self._note_down(error)

    async def ask(self, question: Callable[[Store], T]) -> T:
        """Return what the store answers, with all usage until now in it. Raises StoreError."""
        self.hurry()
        await self._write_usage()
        return await self._thread.call(question)

    async def restore(self, limiter: Limiter) -> None:
        """Tell the limiter what was used this month before this process. Raises StoreError."""
        today = day_of(self._clock.unix_s())
        month = UsageQuery(
            first_day=f"{today[:7]}-01",
            last_day=today,
            rows_max=USAGE_ROWS_MAX,
            group_by=("day", "key_id", "alias"),
        )
        for key_id, alias, of_today, of_month in await self._thread.call(
            lambda store: _sums(store.usage_days(month), today)
        ):
            if self._has_budget(key_id, alias):
                limiter.restore((key_id, alias), today, of_today, of_month)

    def _has_budget(self, key_id: str, alias: str) -> bool:
        """Say whether sums of a period matter; of a model they may, whoever used it."""
        if not key_id:
            return True
        key = self.ring.get(key_id)
        if key is None:
            return False
        limits = (key.per_model or {}).get(alias) if alias else key.limits
        return limits is not None and bool(limits.tokens_per_day or limits.tokens_per_month)

    # -- while it runs

    def take(self, settled: Sequence[Record]) -> None:
        """Note settled requests, to be written soon."""
        rows = usage_rows(settled)
        if self._pending_count >= PENDING_MAX:
            self.dropped += len(rows)
            return
        usage.add(self._pending, rows)
        self._pending_count += len(rows)

    async def run(self, usage_days: Callable[[], int]) -> None:
        """Follow and write until cancelled; `usage_days` is how long single requests are kept."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            self.ring.expire(self._clock.unix_s())
            try:
                await self._write_usage()
                await self.follow()
                await self._prune(usage_days())
            except StoreError as error:
                self._note_down(error)
            else:
                self._note_up()

    async def close(self) -> None:
        """Write what is left, and let go. What cannot be written now is lost, and told."""
        try:
            await self._write_usage()
        except StoreError as error:
            _log.error("usage lost", extra={"requests": self._pending_count, "reason": str(error)})
        await self._thread.close()

    async def _write_usage(self) -> None:
        """Write what there is, in one transaction: each costs a sync, and turns of two threads."""
        taken, self._pending = self._pending, UsageBatch()
        if not taken.requests:
            return
        writing = self._thread.start(_writing(taken))
        try:
            await asyncio.shield(writing)
        finally:
            # When cancelled, too: the thread finishes what it has begun, and what was written then
            # must not be written again at the end.
            await asyncio.wait([writing])
            if writing.exception() is None:
                self._pending_count -= taken.requests
            else:
                usage.join(taken, self._pending)
                self._pending = taken

    async def _prune(self, usage_days: int) -> None:
        now_s = self._clock.now_s()
        if not self.prunes or now_s - self._pruned_s < PRUNE_INTERVAL_S:
            return
        self._pruned_s = now_s
        before_unix_s = self._clock.unix_s() - usage_days * DAY_S
        await self._thread.call(lambda store: store.prune(before_unix_s))

    def _note_down(self, error: StoreError) -> None:
        if self.is_up:
            self.is_up = False
            _log.error(
                "store unavailable: serving with the keys known so far",
                extra={"reason": str(error), "hint": error.hint},
            )

    def _note_up(self) -> None:
        if not self.is_up:
            self.is_up = True
            _log.info("store available again")


async def open_keeper(settings: StoreSettings, state: Path | None, clock: Clock) -> Keeper | None:
    """Return the configured store at work, None if there is none. Raises StoreError."""
    if settings.url is not None:
        url = settings.url.reveal()
    elif state is not None:
        url = f"sqlite:///{state / STORE_FILE}"
    else:
        return None
    return await Keeper.open(url, secrets.token_bytes(PEPPER_BYTES), clock)


def _sums(days: Sequence[UsageDay], today: str) -> list[tuple[str, str, int, int]]:
    """Return key, alias ("": any), and the tokens of today and of the month."""
    sums: dict[tuple[str, str], tuple[int, int]] = {}
    for day in days:
        tokens = day.prompt_tokens + day.completion_tokens
        for place in ((day.key_id, ""), (day.key_id, day.alias), ("", day.alias)):
            of_today, of_month = sums.get(place, (0, 0))
            sums[place] = (of_today + (tokens if day.day == today else 0), of_month + tokens)
    return [(*place, *both) for place, both in sums.items()]


def _writing(taken: UsageBatch) -> Callable[[Store], None]:
    return lambda store: store.add_usage(taken)


def usage_rows(records: Sequence[Record]) -> list[UsageRow]:
    """Return what requests to models used; views and refused ones used nothing."""
    return [
        UsageRow(
            record.request_id,
            record.started_unix_s + record.duration_s,
            record.principal,
            record.user,
            record.alias,
            record.model,
            record.backend,
            record.operation,
            record.outcome,
            record.status,
            record.prompt_tokens,
            record.cached_tokens,
            record.completion_tokens,
            record.queue_s,
            record.first_token_s,
            record.duration_s,
        )
        for record in records
        if record.alias
    ]
