"""Who is asking. One master key until there are virtual ones."""

import hashlib
import hmac
from collections.abc import Mapping

from arriero.base.errors import Unauthorized


def key_digest(key: bytes) -> bytes:
    """Return what keys are compared by: a digest, so that not even the length shows in time."""
    return hashlib.blake2b(key, digest_size=32).digest()


def authenticate(headers: Mapping[bytes, bytes], master_digest: bytes | None) -> str:
    """Return the principal's name, in constant time. Raises Unauthorized; it tells nobody more.

    The key comes as `Authorization: Bearer` or, as Anthropic's clients send it, as `x-api-key`.
    """
    value = headers.get(b"authorization")
    if value is None:
        key = headers.get(b"x-api-key")
    elif value[:7] == b"Bearer " or value[:7].lower() == b"bearer ":
        key = value[7:].strip()
    else:
        key = None
    if key is None:
        raise Unauthorized(
            "no API key was sent", hint="send the header `Authorization: Bearer <key>`"
        )
    if master_digest is None:
        raise Unauthorized("this gateway has no master key", hint="set access.master_key")
    if not hmac.compare_digest(key_digest(key), master_digest):
        raise Unauthorized("this API key is not valid")
    return "master"
