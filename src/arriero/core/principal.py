"""On whose account a request is: a key, or the person whom a trusted key names."""

from collections.abc import Mapping

import msgspec

USER_CHARS_MAX = 128  # Open WebUI's ids are UUIDs; a longer name is cut, not refused


class Principal(msgspec.Struct, gc=False, frozen=True):
    """Who asks. `name` is what fairness counts by; `trusted` keys may speak for others."""

    key: str
    user: str = ""  # named by a trusted key; empty: the key speaks for itself
    trusted: bool = False

    @property
    def name(self) -> str:
        """The key, and behind it the user; no key's name has a slash in it."""
        return f"{self.key}/{self.user}" if self.user else self.key


def identify(
    headers: Mapping[bytes, bytes], key: str, *, trusted: bool, user_header: bytes
) -> Principal:
    """Return the principal of a request that came with `key`.

    `user_header` is a header's name in lower case, such as `x-openwebui-user-id`. It counts behind
    a trusted key only: anybody else could take a new name for each request, and with it a new
    newcomer's place in the queue.
    """
    if not trusted:
        return Principal(key)
    value = headers.get(user_header)
    if not value:
        return Principal(key, trusted=True)
    return Principal(key, value[:USER_CHARS_MAX].decode("latin-1"), trusted=True)
