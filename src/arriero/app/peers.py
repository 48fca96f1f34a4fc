"""Build a gateway's link to the others; Valkey's client is imported only where it is configured."""

from collections.abc import Iterable

from arriero.base.clock import Clock
from arriero.config.settings import Peers
from arriero.core import others
from arriero.core.hints import Hint, Hints, heed
from arriero.core.roster import Host
from arriero.peers.link import Link
from arriero.peers.port import PeersUnusable
from arriero.server.gateway import Gateway


def open_link(settings: Peers, gateway: Gateway, clock: Clock) -> Link | None:
    """Return the link of a gateway, None if it is alone. Raises PeersUnusable."""
    if settings.url is None:
        return None
    try:
        from arriero.peers.valkey import ValkeyBoard  # noqa: PLC0415 - an extra, and 100 ms
    except ImportError as error:
        raise PeersUnusable("no module redis", "pip install 'arriero[cluster]'") from error
    try:
        board = ValkeyBoard(settings.url.reveal(), settings.prefix, settings.timeout_s)
    except ValueError as error:
        raise PeersUnusable("peers.url is no such URL", "redis://HOST:6379") from error

    key = gateway.runtime.config.access.master_key
    hints = Hints(key.reveal().encode() if key else b"")
    gateway.runtime.fleet.roster.hints = hints
    return Link(board, clock, gateway.limiter, GatewayFleet(gateway, hints))


class GatewayFleet:
    """The hosts of a gateway, whichever its configuration names at the moment."""

    def __init__(self, gateway: Gateway, told: Hints) -> None:
        self._gateway = gateway
        self._told = told

    @property
    def _hosts(self) -> Iterable[Host]:
        return self._gateway.runtime.fleet.hosts.values()

    def state(self) -> others.State:
        """Return what this gateway has on the hosts."""
        return others.state_of(self._hosts)

    def hear(self, states: list[others.State], rank: int, now_s: float) -> None:
        """Take over what the others have."""
        others.hear(self._hosts, states, rank, now_s)

    def hints(self) -> list[Hint]:
        """Return, once, where requests were sent to lately."""
        return self._told.take()

    def heed(self, hints: list[Hint]) -> None:
        """Take over where the others sent theirs."""
        heed(self._hosts, hints)
