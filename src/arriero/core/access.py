"""Who is asking. One master key until there are virtual ones."""

import hmac
from collections.abc import Mapping

from arriero.base.errors import Unauthorized

KEY_BYTES_MAX = 256


def padded_key(key: bytes) -> bytes:
    """Return a key at a fixed length, so that a comparison's time does not tell the length.

    NUL cannot stand in a header field (RFC 9110, 5.5), so no other key becomes the same.
    """
    return key.ljust(KEY_BYTES_MAX, b"\0")


def authenticate(headers: Mapping[bytes, bytes], master_key: bytes | None) -> str:
    """Return the principal's name, in constant time. Raises Unauthorized; it tells nobody more.

    `master_key` is padded (`padded_key`). The key comes as `Authorization: Bearer` or, as
    Anthropic's clients send it, as `x-api-key`.
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
    if master_key is None:
        raise Unauthorized("this gateway has no master key", hint="set access.master_key")
    if not hmac.compare_digest(padded_key(key), master_key):
        raise Unauthorized("this API key is not valid")
    return "master"
