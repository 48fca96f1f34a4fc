"""Virtual keys: who may call, what for, and how they are found.

Theory. A key's secret is 256 random bits and is stored nowhere: what is kept is its digest, a
BLAKE2b keyed with the installation's pepper. Whoever reads the store can therefore neither use a
key nor try guesses at one without the pepper. Finding a key is one digest and one look into a
dictionary; its time tells nothing of the secret, because the place in the dictionary depends on the
digest alone.

Every change of the ring replaces its `epoch`. Whoever remembers a decision remembers the epoch with
it, and decides anew when it is another: a revoked key is refused from the next request on, and
nobody asks the store while serving.
"""

import hashlib
import heapq
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Final, Literal

import msgspec

from arriero.config.settings import Limits

__all__ = ["Key", "KeyRing", "Limits", "OperationName", "Role", "digest", "hint"]

Role = Literal["user", "admin", "read_only"]
OperationName = Literal["chat", "completion", "embedding", "models"]

SECRET_PREFIX = "sk-"  # noqa: S105 - what all of them begin with
SECRET_BYTES = 32
SECRET_CHARS_MIN = 16  # of keys that people bring; LiteLLM's rule
SECRET_CHARS_MAX = 256
DIGEST_BYTES = 32
_HINT_CHARS = 4


class Key(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One virtual key. `id` is public: logs, metrics and usage call the key by it.

    Empty `models` and `operations` mean all of them. `per_model` narrows `limits` for an alias.
    `priority` is the most urgent class of the queue it may take, "" for any. A `trusted` key may
    name the user it speaks for. After a rotation the previous secret works until
    `previous_until_unix_s`.
    """

    id: str
    digest: bytes
    hint: str = ""
    alias: str = ""
    role: Role = "user"
    owner: str = ""
    models: tuple[str, ...] = ()
    operations: tuple[OperationName, ...] = ()
    priority: str = ""
    trusted: bool = False
    blocked: bool = False
    expires_unix_s: float = 0.0  # 0: never
    limits: Limits | None = None
    per_model: dict[str, Limits] | None = None
    tags: tuple[str, ...] = ()
    metadata: bytes = b""  # a JSON object as the client wrote it, or nothing
    labels: dict[str, str] | None = None  # what other systems call its team, project, ...
    created_unix_s: float = 0.0
    created_by: str = ""
    updated_unix_s: float = 0.0
    updated_by: str = ""
    previous_digest: bytes = b""
    previous_until_unix_s: float = 0.0

    def may_use(self, alias: str) -> bool:
        """Say whether the key is for this model; `*` in a name stands for any characters."""
        models = self.models
        return not models or alias in models or any(fnmatchcase(alias, one) for one in models)

    def may_do(self, operation: str) -> bool:
        """Say whether the key is for this operation."""
        return not self.operations or operation in self.operations

    def is_expired(self, now_unix_s: float) -> bool:
        """Say whether its time is over."""
        return 0 < self.expires_unix_s <= now_unix_s


class Sharer:
    """Lets keys share what is equal in many of them, which takes half of their memory away."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[object, object] = {}

    def lean(self, key: Key) -> Key:
        """Return the key with its equal parts shared; it must be nobody else's yet."""
        seen = self._seen
        for name in _SHARED:
            value = getattr(key, name)
            if value:
                msgspec.structs.force_setattr(key, name, seen.setdefault(value, value))
        for name in _TIMES:  # a zero is an object of its own wherever it is read
            if not getattr(key, name):
                msgspec.structs.force_setattr(key, name, _NEVER_S)
        return key


_SHARED: Final = ("models", "operations", "tags", "limits", "created_by", "updated_by")
_TIMES: Final = (
    "expires_unix_s", "created_unix_s", "updated_unix_s", "previous_until_unix_s",
)  # fmt: skip
_NEVER_S: Final = 0.0


def digest(secret: bytes, pepper: bytes) -> bytes:
    """Return what stands for a secret in memory and in the store."""
    return hashlib.blake2b(secret, key=pepper, digest_size=DIGEST_BYTES).digest()


def hint(secret: str) -> str:
    """Return what reminds people of a secret without telling it."""
    return f"{SECRET_PREFIX}...{secret[-_HINT_CHARS:]}"


class KeyRing:
    """All keys that may be used, found by the digest of their secrets."""

    __slots__ = ("_by_alias", "_by_digest", "_by_id", "_ends", "_over", "_pepper", "epoch")

    def __init__(self, pepper: bytes, keys: Iterable[Key] = ()) -> None:
        self._pepper = pepper
        self._by_digest: dict[bytes, Key] = {}
        self._by_id: dict[str, Key] = {}
        self._by_alias: dict[str, Key] = {}
        self._over: dict[bytes, Key] = {}  # those whose time is over, by their digests
        self._ends: list[tuple[float, str]] = []  # a heap of when keys may change by themselves
        self.epoch = object()
        for key in keys:
            self.put(key)

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, secret: bytes) -> Key | None:
        """Return the key with this secret, unless it is blocked or its time is over."""
        key = self._by_digest.get(digest(secret, self._pepper))
        return None if key is None or key.blocked else key

    def owner_of(self, secret: str) -> Key | None:
        """Return the key with this secret, also one that is blocked or over: for administrators."""
        wanted = self.digest(secret)
        return self._by_digest.get(wanted) or self._over.get(wanted)

    def digest(self, secret: str) -> bytes:
        """Return the digest of a secret under this ring's pepper."""
        return digest(secret.encode(), self._pepper)

    def get(self, key_id: str) -> Key | None:
        """Return a key by its public id, blocked or not."""
        return self._by_id.get(key_id)

    def by_alias(self, alias: str) -> Key | None:
        """Return a key by the name that people gave it."""
        return self._by_alias.get(alias)

    def __iter__(self) -> Iterator[Key]:
        """Iterate over all keys, also those that cannot be used now."""
        return iter(self._by_id.values())

    def put(self, key: Key) -> None:
        """Add a key, or replace the one with its id."""
        self._forget(key.id)
        self._by_id[key.id] = key
        self._by_digest[key.digest] = key
        if key.previous_until_unix_s > 0:
            self._by_digest[key.previous_digest] = key
        if key.alias:
            self._by_alias[key.alias] = key
        for at_s in (key.expires_unix_s, key.previous_until_unix_s):
            if at_s > 0:
                heapq.heappush(self._ends, (at_s, key.id))
        self.epoch = object()

    def remove(self, key_id: str) -> None:
        """Forget a key, if there is one of that id."""
        self._forget(key_id)
        self.epoch = object()

    def expire(self, now_unix_s: float) -> None:
        """Let secrets end whose time is over; called several times a second, and before serving."""
        ends = self._ends
        while ends and ends[0][0] <= now_unix_s:
            key = self._by_id.get(heapq.heappop(ends)[1])
            if key is None:
                continue  # removed since
            if key.is_expired(now_unix_s):
                self._by_digest.pop(key.digest, None)
                self._over[key.digest] = key
            if key.is_expired(now_unix_s) or key.previous_until_unix_s <= now_unix_s:
                self._by_digest.pop(key.previous_digest, None)
            self.epoch = object()

    def _forget(self, key_id: str) -> None:
        old = self._by_id.pop(key_id, None)
        if old is None:
            return
        self._by_digest.pop(old.digest, None)
        self._by_digest.pop(old.previous_digest, None)
        self._over.pop(old.digest, None)
        if self._by_alias.get(old.alias) is old:
            del self._by_alias[old.alias]
