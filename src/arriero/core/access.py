"""Who is asking. One master key until there are virtual ones."""

import hashlib
import hmac
from collections.abc import Mapping

from arriero.base.errors import Unauthorized

_BEARER = b"bearer "


def key_digest(key: bytes) -> bytes:
    """Return what keys are compared by: a digest, so that not even the length shows in time."""
    return hashlib.blake2b(key, digest_size=32).digest()


def presented_key(headers: Mapping[bytes, bytes]) -> bytes | None:
    """Return the key of `Authorization: Bearer` or, as Anthropic's clients send it, `x-api-key`."""
    value = headers.get(b"authorization")
    if value is not None:
        if value[:7].lower() == _BEARER:
            return value[7:].strip()
        return None
    return headers.get(b"x-api-key")


def authenticate(headers: Mapping[bytes, bytes], master_digest: bytes) -> str:
    """Return the principal's name, in constant time. Raises Unauthorized; it tells nobody more."""
    key = presented_key(headers)
    if key is None:
        raise Unauthorized(
            "no API key was sent", hint="send the header `Authorization: Bearer <key>`"
        )
    if not hmac.compare_digest(key_digest(key), master_digest):
        raise Unauthorized("this API key is not valid")
    return "master"
