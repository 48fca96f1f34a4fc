"""Build a gateway's link to the others; Valkey's client is imported only where it is configured."""

from arriero.base.clock import Clock
from arriero.config.settings import Peers
from arriero.core import others
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

    def state() -> others.State:
        return others.state_of(gateway.runtime.fleet.hosts.values())

    def hear(states: list[others.State], rank: int, now_s: float) -> None:
        others.hear(gateway.runtime.fleet.hosts.values(), states, rank, now_s)

    return Link(board, clock, gateway.limiter, state, hear)
