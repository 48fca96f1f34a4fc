"""What gateways tell each other of prompt caches: which host was sent which conversation.

Theory. A host that holds a conversation holds it whichever gateway sent it there. So a gateway
tells the others, for each request that `adaptive` placed, the last blocks of its chain
(`core.prefix`) and its conversation's name; they note them as if they had sent it. Nobody waits for
that: without a hint a gateway knows what it would know alone.

No text is told, nor a name, but keyed hashes of 64 bits, the key being made of the master key,
which all gateways have: who can read what they tell each other cannot try guesses at prompts.
Python's own hashes, keyed anew in each process, would mean nothing elsewhere.
"""

from collections import deque
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

import msgspec

from arriero.core.prefix import Chain
from arriero.core.roster import Host, Station

HINTS_MAX: Final = 64  # told at a time; of more, the last
BLOCKS_TOLD: Final = 8  # of one chain; what comes before was told with earlier turns
_HASH_BYTES: Final = 8


class Hint(msgspec.Struct, frozen=True, array_like=True):
    """A model on a host was sent this; `session` is "" where the conversation has no name."""

    url: str
    model: str
    blocks: list[int]
    session: str


class Hints:
    """What there is to tell, and the hashes to tell it in."""

    __slots__ = ("_key", "_told")

    def __init__(self, secret: bytes) -> None:
        self._key = blake2b(secret, digest_size=32, person=b"arriero hints").digest()
        self._told: deque[Hint] = deque(maxlen=HINTS_MAX)

    def hashed(self, parts: tuple[object, ...]) -> int:
        """Return the same for the same parts, at any gateway."""
        text = "\0".join(map(str, parts)).encode(errors="surrogatepass")
        found = blake2b(text, digest_size=_HASH_BYTES, key=self._key).digest()
        return int.from_bytes(found, signed=True)

    def session(self, name: str) -> str:
        """Return what stands for a conversation's name."""
        return f"{self.hashed((name,)):x}"

    def note(self, station: Station, blocks: list[int], session: str) -> None:
        """A request was sent to a station: the blocks of its prompt, its conversation."""
        url = station.host.settings.url
        self._told.append(Hint(url, station.model, blocks[-BLOCKS_TOLD:], session))

    def take(self) -> list[Hint]:
        """Return what there is to tell, once."""
        told = list(self._told)
        self._told.clear()
        return told


def heed(hosts: Iterable[Host], told: Iterable[Hint]) -> None:
    """Note what others sent, as far as the host and its model are known here."""
    by_url = {host.settings.url: host for host in hosts}
    for hint in told:
        host = by_url.get(hint.url)
        station = host.stations.get(hint.model) if host is not None else None
        if station is None:
            continue
        prefixes, bit = station.group.prefixes, station.host.bit
        prefixes.note(bit, Chain([], [], hint.blocks))
        if hint.session:
            prefixes.note_session(hint.session, bit)
