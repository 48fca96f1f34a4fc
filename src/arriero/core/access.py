"""Who is asking, and for what: the master key, or a virtual one within its scope."""

import hmac
from collections.abc import Mapping

from arriero.base.errors import Forbidden, Unauthorized
from arriero.core.keys import Key, KeyRing

KEY_BYTES_MAX = 256
MASTER_ID = "master"
KEY_API = "key_api"  # the operation that judges its callers by itself


def padded_key(key: bytes) -> bytes:
    """Return a key at a fixed length, so that a comparison's time does not tell the length.

    NUL cannot stand in a header field (RFC 9110, 5.5), so no other key becomes the same.
    """
    return key.ljust(KEY_BYTES_MAX, b"\0")


def is_master(secret: bytes, padded_master: bytes | None) -> bool:
    """Say whether this is the master key, in a time that does not tell how much of it is."""
    return padded_master is not None and hmac.compare_digest(padded_key(secret), padded_master)


def master_key(*, trusted: bool) -> Key:
    """Return what the master key may do: everything."""
    return Key(id=MASTER_ID, digest=b"", role="admin", trusted=trusted)


def authenticate(
    headers: Mapping[bytes, bytes], padded_master: bytes | None, master: Key, ring: KeyRing
) -> Key:
    """Return the key that came. Raises Unauthorized, which tells nobody what keys there are.

    It comes as `Authorization: Bearer` or, as Anthropic's clients send it, as `x-api-key`. The
    master key is compared in constant time, virtual ones are found by their digests.
    """
    value = headers.get(b"authorization")
    if value is None:
        secret = headers.get(b"x-api-key")
    elif value[:7] == b"Bearer " or value[:7].lower() == b"bearer ":
        secret = value[7:].strip()
    else:
        secret = None
    if secret is None:
        raise Unauthorized(
            "no API key was sent", hint="send the header `Authorization: Bearer <key>`"
        )
    if is_master(secret, padded_master):
        return master
    key = ring.find(secret) if len(secret) <= KEY_BYTES_MAX else None
    if key is None:
        if padded_master is None and not ring:
            raise Unauthorized("this gateway has no master key", hint="set access.master_key")
        raise Unauthorized("this API key is not valid")
    return key


def authorise(key: Key, operation: str, *, inner: bool) -> None:
    """Check that a key is for this operation. Raises Forbidden.

    `inner` is what tells about the gateway itself: for administrators, and for keys that may look
    at everything and use nothing.
    """
    if operation == KEY_API:
        return
    if inner:
        if key.role == "user":
            raise Forbidden("this key is for models, not for the gateway's own pages")
    elif key.role == "read_only" and operation != "models":
        raise Forbidden("this key may look at everything, and use no model")
    elif not key.may_do(operation):
        raise Forbidden(f"this key is not for the operation `{operation}`")


def check_model(key: Key, model: str) -> None:
    """Check that a key is for this model. Raises Forbidden, whether the model exists or not."""
    if key.models and not key.may_use(model):
        raise Forbidden(
            "this key is not for that model", param="model", hint="GET /v1/models lists its own"
        )
