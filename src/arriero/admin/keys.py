"""The calls that make, show, change and end keys, as LiteLLM's do."""

import msgspec

from arriero.admin.calls import Asked, Nothing
from arriero.admin.desk import Desk
from arriero.admin.fields import (
    GenerateRequest,
    RegenerateRequest,
    UpdateRequest,
    patch_of,
)
from arriero.admin.rows import KeyInfo, KeyObject, MadeKey, UpdatedKey, fields_of
from arriero.base.errors import BadRequest, Forbidden
from arriero.core.access import MASTER_ID
from arriero.core.keychange import block, delete, make, rotate, seconds_of, update
from arriero.core.keys import Key

KEYS_MAX = 1000  # named in one call


class InfoQuery(msgspec.Struct, frozen=True):
    """Which key to show, by its id, alias or secret; the caller's own without one."""

    key: str = ""


class InfoAnswer(msgspec.Struct):
    """A key; `key` is what the caller named it by."""

    key: str
    info: KeyInfo


class Named(msgspec.Struct, frozen=True):
    """One key, by its secret, id or alias."""

    key: str


class NamedKeys(msgspec.Struct, frozen=True):
    """Keys, by their secrets, ids or aliases."""

    keys: tuple[str, ...] | None = None
    key_aliases: tuple[str, ...] | None = None


class InfosAnswer(msgspec.Struct):
    """Keys; those that are not there are left out."""

    key: tuple[str, ...] | None
    info: list[KeyInfo]


class DeleteAnswer(msgspec.Struct):
    """The keys that are gone, as the caller named them."""

    deleted_keys: tuple[str, ...]


async def generate(desk: Desk, asked: Asked[Nothing, GenerateRequest]) -> MadeKey:
    """Make a key. Its secret is in this answer and nowhere else."""
    patch = patch_of(asked.body)
    async with desk.in_turn():
        secret, drawn = desk.draw(asked.body.key, "key")
        change = make(desk.new_id(), drawn, patch, desk.stamp(asked.by))
        key = await desk.write(change, asked.by, asked.client)
    return MadeKey(key=secret, token=key.id, **fields_of(key, desk.now_unix_s()))


async def info(desk: Desk, asked: Asked[InfoQuery, Nothing]) -> InfoAnswer:
    """Show a key, the caller's own if none is named."""
    reference = asked.query.key
    if not reference and asked.by.id == MASTER_ID:
        raise BadRequest(
            "the master key is no virtual key", param="key", hint="name one: /key/info?key=..."
        )
    if not asked.sees_all and not _is_own(desk, asked.by, reference):
        raise Forbidden("this key may see itself, and no other", hint="GET /key/info")
    # The caller's key as it is now: the one that the request came with may be older.
    key = desk.find(asked.by.id if not asked.sees_all else reference or asked.by.id)
    return InfoAnswer(reference or key.id, KeyInfo(**fields_of(key, desk.now_unix_s())))


async def infos(desk: Desk, asked: Asked[Nothing, NamedKeys]) -> InfosAnswer:
    """Show several keys."""
    named = _named(asked.body)
    found = [key for reference in named if (key := _find_or_none(desk, reference)) is not None]
    now_unix_s = desk.now_unix_s()
    shown = [KeyInfo(**fields_of(key, now_unix_s)) for key in found]
    return InfosAnswer(asked.body.keys, shown)


async def change(desk: Desk, asked: Asked[Nothing, UpdateRequest]) -> UpdatedKey:
    """Change a key: what is left out stays, null clears."""
    body = asked.body
    reference = body.key
    if reference is None:
        if not isinstance(body.key_alias, str):
            raise BadRequest("neither key nor key_alias says which", param="key")
        reference = body.key_alias
    patch = patch_of(body)
    async with desk.in_turn():
        key, stamp = desk.find(reference), desk.stamp(asked.by)
        new = await desk.change(
            key, lambda stored: update(stored, patch, stamp), asked.by, asked.client
        )
    return UpdatedKey(key=reference, token=new.id, **fields_of(new, desk.now_unix_s()))


async def remove(desk: Desk, asked: Asked[Nothing, NamedKeys]) -> DeleteAnswer:
    """Delete keys: all that are named, or none when one of them is not there."""
    named = _named(asked.body)
    async with desk.in_turn():
        found = [desk.find(reference, f"keys[{at}]") for at, reference in enumerate(named)]
        for key in {one.id: one for one in found}.values():
            await desk.write(delete(key), asked.by, asked.client)
    return DeleteAnswer(named)


async def regenerate(desk: Desk, asked: Asked[Nothing, RegenerateRequest]) -> MadeKey:
    """Give a key another secret, and perhaps other settings; the old secret may have a while."""
    body = asked.body
    reference = body.key or asked.named
    if not reference:
        raise BadRequest("no key is named", param="key", hint="/key/{key}/regenerate")
    patch = patch_of(body)
    grace_s = seconds_of(body.grace_period, "grace_period") if body.grace_period else 0.0
    async with desk.in_turn():
        key, stamp = desk.find(reference), desk.stamp(asked.by)
        secret, drawn = desk.draw(body.new_key, "new_key")
        new = await desk.change(
            key,
            lambda stored: rotate(stored, drawn, patch, stamp, grace_s),
            asked.by,
            asked.client,
        )
    return MadeKey(key=secret, token=new.id, **fields_of(new, desk.now_unix_s()))


async def block_key(desk: Desk, asked: Asked[Nothing, Named]) -> KeyObject:
    """Refuse a key from its next request on."""
    return await _block(desk, asked, blocked=True)


async def unblock_key(desk: Desk, asked: Asked[Nothing, Named]) -> KeyObject:
    """Let a blocked key in again."""
    return await _block(desk, asked, blocked=False)


async def _block(desk: Desk, asked: Asked[Nothing, Named], *, blocked: bool) -> KeyObject:
    async with desk.in_turn():
        key, stamp = desk.find(asked.body.key), desk.stamp(asked.by)
        new = await desk.change(
            key, lambda stored: block(stored, stamp, blocked=blocked), asked.by, asked.client
        )
    return KeyObject(token=new.id, **fields_of(new, desk.now_unix_s()))


def _named(body: NamedKeys) -> tuple[str, ...]:
    named = (*(body.keys or ()), *(body.key_aliases or ()))
    if not named:
        raise BadRequest(
            "no key is named", param="keys", hint='{"keys": [...]} or {"key_aliases": [...]}'
        )
    if len(named) > KEYS_MAX:
        raise BadRequest(f"more than {KEYS_MAX} keys are named", param="keys", hint="ask again")
    return named


def _find_or_none(desk: Desk, reference: str) -> Key | None:
    ring = desk.ring
    if reference.startswith("sk-"):
        return ring.owner_of(reference)
    return ring.get(reference) or ring.by_alias(reference)


def _is_own(desk: Desk, own: Key, reference: str) -> bool:
    """Say whether a key calls itself by this, without a look at any other key."""
    if not reference or reference in (own.id, own.alias):
        return True
    return desk.ring.digest(reference) in (own.digest, own.previous_digest)
