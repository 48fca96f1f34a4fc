"""What the key API works with: the keys in memory, the store behind them, chance and the clock.

A change is made of the key that stands in the store at that moment, within one transaction there,
so that two of one key do not undo each other, whichever gateways they are asked of. The store's
failures become the API's errors here.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Iterator
from typing import Final, Protocol, TypeVar

from arriero.base.clock import Clock
from arriero.base.errors import BadRequest, StoreDown, UnknownKey
from arriero.core.keychange import Change, Drawn, Stamp, check_secret
from arriero.core.keys import SECRET_BYTES, SECRET_PREFIX, Key, KeyRing, hint
from arriero.store.port import AuditEntry, KeyConflict, Store, StoreError

T = TypeVar("T")
ID_BYTES: Final = 10


class KeyStore(Protocol):
    """The keys in memory and the store beside it."""

    @property
    def ring(self) -> KeyRing:
        """All keys."""
        ...

    async def put(self, key: Key, entry: AuditEntry) -> None:
        """Write a key, then let it be used. Raises StoreError."""
        ...

    async def change(
        self, key_id: str, change: Callable[[Key], tuple[Key, AuditEntry]]
    ) -> Key | None:
        """Write what `change` makes of the stored key; None: there is none. Raises StoreError."""
        ...

    async def remove(self, key_id: str, entry: AuditEntry) -> None:
        """Forget a key. Raises StoreError."""
        ...

    async def follow(self) -> None:
        """Take over what other gateways changed until now. Raises StoreError."""
        ...

    async def ask(self, question: Callable[[Store], T]) -> T:
        """Return what the store answers. Raises StoreError."""
        ...


class Desk:
    """Where changes of keys are asked for."""

    def __init__(self, store: KeyStore, clock: Clock, is_master: Callable[[str], bool]) -> None:
        """Work on `store`; `is_master` says whether a secret is the master key."""
        self._store = store
        self._clock = clock
        self._is_master = is_master
        self._turn = asyncio.Lock()

    @property
    def ring(self) -> KeyRing:
        """All keys."""
        return self._store.ring

    def now_unix_s(self) -> float:
        """Return the time of day."""
        return self._clock.unix_s()

    def stamp(self, by: Key) -> Stamp:
        """Return what a change that somebody makes now is signed with."""
        return Stamp(by.id, self._clock.unix_s())

    async def look(self) -> None:
        """See what other gateways changed until now, so that a script may ask any of them.

        Without it a key that another one made a moment ago would not be there, and a change would
        be made to what a key was before. Raises StoreDown.
        """
        with _told():
            await self._store.follow()

    def find(self, reference: str, param: str = "key") -> Key:
        """Return the key of this secret, id or alias. Raises UnknownKey, BadRequest."""
        if self._is_master(reference):
            raise BadRequest(
                "the master key is no virtual key",
                param=param,
                hint="access.master_key of the configuration, and a reload",
            )
        if reference.startswith(SECRET_PREFIX):
            found = self.ring.owner_of(reference)
        else:
            found = self.ring.get(reference) or self.ring.by_alias(reference)
        if found is None:
            raise UnknownKey("there is no such key", param=param, hint="GET /key/list")
        return found

    def new_id(self) -> str:
        """Return an id that no key has."""
        return f"key-{secrets.token_hex(ID_BYTES)}"

    def draw(self, own: str | None, param: str) -> tuple[str, Drawn]:
        """Return a new secret, or somebody's own, and what the key knows of it.

        Raises BadRequest if the own one cannot be one, or is another key's already.
        """
        if own is None:
            secret = SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        else:
            secret = check_secret(own, param)
            if self._is_master(secret) or self.ring.owner_of(secret) is not None:
                raise _conflict("another key has this secret", param)
        return secret, Drawn(self.ring.digest(secret), hint(secret))

    def check_alias(self, change: Change) -> None:
        """Refuse an alias that another key has, or is called by. Raises BadRequest."""
        key, ring = change.key, self.ring
        if not key.alias:
            return
        other = ring.by_alias(key.alias)
        if (other is not None and other.id != key.id) or ring.get(key.alias) is not None:
            raise _conflict(f"another key has the alias {key.alias[:100]!r}", "key_alias")

    async def write(self, change: Change, by: Key, client: str) -> Key:
        """Make or delete a key, with its line in the audit. Raises BadRequest, StoreDown."""
        entry = self._entry(change, by, client)
        with _told():
            if change.action == "delete":
                await self._store.remove(change.key.id, entry)
            else:
                self.check_alias(change)
                await self._store.put(change.key, entry)
        return change.key

    async def change(self, key: Key, make: Callable[[Key], Change], by: Key, client: str) -> Key:
        """Change a key, with its line in the audit, and return it as it is then.

        `make` is asked twice: of the key that is known here, for what is wrong with the wish, and
        of the one in the store. Raises BadRequest, UnknownKey, StoreDown.
        """
        self.check_alias(make(key))

        def change(stored: Key) -> tuple[Key, AuditEntry]:
            made = make(stored)
            return made.key, self._entry(made, by, client)

        with _told():
            changed = await self._store.change(key.id, change)
        if changed is None:  # another gateway deleted it a moment ago
            raise UnknownKey("there is no such key", param="key", hint="GET /key/list")
        return changed

    def _entry(self, change: Change, by: Key, client: str) -> AuditEntry:
        return AuditEntry(
            at_unix_s=self._clock.unix_s(),
            actor=by.id,
            action=change.action,
            key_id=change.key.id,
            detail=change.detail,
            client=client,
        )

    async def ask(self, question: Callable[[Store], T]) -> T:
        """Return what the store answers. Raises StoreDown."""
        with _told():
            return await self._store.ask(question)

    def in_turn(self) -> asyncio.Lock:
        """Return what to hold from looking at a key until its change is written."""
        return self._turn


def _conflict(message: str, param: str | None) -> BadRequest:
    return BadRequest(message, param=param, code="key_exists", hint="give another one")


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Say the store's errors in the API's words."""
    try:
        yield
    except KeyConflict as error:
        raise _conflict(str(error), None) from error
    except StoreError as error:
        raise StoreDown(
            "the store cannot be asked now", hint="the gateway's log says why"
        ) from error
