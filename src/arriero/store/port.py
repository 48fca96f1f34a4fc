"""What the gateway asks of a store, whichever database it is.

All methods block and belong to the store's own thread (`store.thread`). Times are Unix seconds.
Every method raises StoreUnavailable when the database cannot be asked.
"""

from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from arriero.core.keys import Key


class StoreError(Exception):
    """The store could not do what it was asked for; `hint` is the way out."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class StoreUnavailable(StoreError):
    """The database cannot be reached or used now."""


class KeyConflict(StoreError):
    """Another key has this alias or this secret."""


class KeyUnreadable(StoreError):
    """A key of the store is not one as this version knows them; nobody is let in by it."""


class AuditEntry(msgspec.Struct, frozen=True):
    """Who changed which key how. `detail` is a JSON object; no secret is ever in it."""

    at_unix_s: float
    actor: str  # a key's id, or "master"
    action: str  # create, update, rotate, block, unblock, delete
    key_id: str
    detail: bytes = b"{}"
    client: str = ""  # address
    seq: int = 0  # given by the store


class UsageRow(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What one request used.

    The store keeps arrays of its fields in this order, so that a new one goes to the end and has a
    default.
    """

    request_id: str
    at_unix_s: float  # when it was settled
    key_id: str
    user: str
    alias: str
    model: str
    backend: str
    operation: str
    outcome: str
    status: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    queue_s: float
    first_token_s: float
    duration_s: float
    seq: int = 0  # given by the store when it is read, in the order of writing


# The number of a day since 1970 (UTC), key, user, alias, backend.
UsagePlace = tuple[float, str, str, str, str]


class UsagePage(msgspec.Struct):
    """Requests that are kept together."""

    rows: list[bytes]  # elements of a JSON array, some in each
    requests: int
    first_at: float
    last_at: float


class UsageBatch(msgspec.Struct):
    """Requests that are written at once, ready to be (`store.usage`).

    Until they are written, some thousands of objects would fill the processor's caches, and each
    request would be given memory that is in none of them.
    """

    pages: list[UsagePage] = []
    sums: dict[UsagePlace, list[int]] = {}  # in the order of `store.usage.SUMS`
    requests: int = 0


class UsageDay(msgspec.Struct, frozen=True, gc=False):
    """Usage of one day (UTC), added up; a field that was not grouped by is empty."""

    day: str  # YYYY-MM-DD
    key_id: str
    user: str
    alias: str
    backend: str
    requests: int
    failures: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


UsageField = Literal["day", "key_id", "user", "alias", "backend"]
USAGE_FIELDS: tuple[UsageField, ...] = ("day", "key_id", "user", "alias", "backend")


class UsageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which usage to return; empty fields do not narrow.

    `group_by` is what sums are told apart by, `before_seq` where a list of single requests goes on.
    """

    first_day: str = ""
    last_day: str = ""
    key_id: str = ""
    user: str = ""
    alias: str = ""
    backend: str = ""
    rows_max: int = 10_000
    group_by: tuple[UsageField, ...] = USAGE_FIELDS
    before_seq: int = 0


class Changes(msgspec.Struct, frozen=True):
    """What happened to keys since `seq` was another: the changed ones, and the ids of removed."""

    seq: int
    changed: tuple[Key, ...]
    removed: tuple[str, ...] = ()


class Store(Protocol):
    """One database."""

    def pepper(self, candidate: bytes) -> bytes:
        """Return the installation's pepper; the first caller's candidate becomes it."""
        ...

    def load_keys(self) -> Changes:
        """Return every key."""
        ...

    def changes_since(self, seq: int) -> Changes:
        """Return what changed after `seq`, also by other gateways."""
        ...

    def put_key(self, key: Key, entry: AuditEntry) -> int:
        """Write a key and its audit entry together; return the new seq. Raises KeyConflict."""
        ...

    def change_key(
        self, key_id: str, change: Callable[[Key], tuple[Key, AuditEntry]]
    ) -> Key | None:
        """Write what `change` makes of a key as it is now, nobody else changing it meanwhile.

        None: there is no such key. Raises KeyConflict, and what `change` raises; then nothing
        is written.
        """
        ...

    def remove_key(self, key_id: str, entry: AuditEntry) -> int:
        """Remove a key, with its audit entry; return the new seq."""
        ...

    def audit(
        self, *, key_id: str = "", before_seq: int = 0, rows_max: int = 100
    ) -> list[AuditEntry]:
        """Return audit entries, the newest first."""
        ...

    def add_usage(self, batch: UsageBatch) -> None:
        """Write requests and add them to their days, all or nothing."""
        ...

    def usage_days(self, query: UsageQuery) -> list[UsageDay]:
        """Return usage by day."""
        ...

    def usage_requests(self, query: UsageQuery) -> list[UsageRow]:
        """Return single requests, the newest first, as far back as they are kept."""
        ...

    def prune(self, before_unix_s: float) -> int:
        """Forget single requests of before that moment; return how many. Days are kept.

        What was written together goes together, when the last of it is so old.
        """
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...
