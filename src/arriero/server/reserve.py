"""Hold a request to the limits of its key and its model, where there are any."""

from arriero.base.errors import BudgetExceeded, RateLimited
from arriero.core.ask import Ask
from arriero.core.fleet import Alias
from arriero.core.keys import Key
from arriero.core.limits import headers, lacking
from arriero.peers.link import Link
from arriero.server.exchange import Exchange
from arriero.server.holds import Held


async def reserve(exchange: Exchange, key: Key, alias: Alias, ask: Ask) -> None:
    """Let the request in by all limits, and wait until enough of the others have ended.

    Raises RateLimited, BudgetExceeded, QueueTimeout. The exchange settles it, however it ends.
    """
    gateway = exchange.gateway
    holds, clock = gateway.holds, gateway.clock
    subjects = gateway.limiter.subjects(key, alias.name, alias.settings.limits)
    tokens = ask.prompt_tokens + ask.output_tokens
    now_s = clock.now_s()
    if gateway.peers is not None and lacking(subjects, tokens, now_s, clock.unix_s()):
        await _claimed(exchange, gateway.peers)
        now_s = clock.now_s()
    try:
        reservation = gateway.limiter.admit(subjects, tokens, now_s, clock.unix_s())
    except (RateLimited, BudgetExceeded) as refused:
        gateway.counters.limit_refused(refused.code)
        raise
    exchange.reservation = reservation
    told = "".join(f"{name}: {value}\r\n" for name, value in headers(reservation, now_s))
    exchange.extra_head += told.encode()
    if not holds.enter(reservation):
        limits = exchange.runtime.config.queue
        wait_s: float = getattr(limits, f"{ask.priority.name.lower()}_deadline_s")
        held = Held(holds, exchange, reservation, now_s + wait_s)
        holds.join(held)
        exchange.ongoing = held
        try:
            await exchange
        finally:
            exchange.ongoing = None
            exchange.record.queue_s += clock.now_s() - now_s


class Claiming:
    """What an exchange is doing while its gateway asks for shares of limits."""

    __slots__ = ("_exchange", "_link")

    def __init__(self, link: Link, exchange: Exchange) -> None:
        self._link = link
        self._exchange = exchange

    def go_on(self) -> None:
        """The answer has come, or there is nobody to ask."""
        self._exchange.resume(None)

    def sweep(self, now_s: float) -> None:
        """The link has its own deadline."""

    def pause(self) -> None:
        """Nothing arrives while it waits."""

    def unpause(self, now_s: float) -> None:
        """Nothing was held back."""

    def cancel(self) -> None:
        """The client is gone, or the request's time is over."""
        self._link.leave(self.go_on)


async def _claimed(exchange: Exchange, link: Link) -> None:
    claiming = exchange.ongoing = Claiming(link, exchange)
    link.wait(claiming.go_on)
    try:
        await exchange
    finally:
        exchange.ongoing = None
