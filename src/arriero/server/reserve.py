"""Hold a request to the limits of its key and its model, where there are any."""

from collections.abc import Coroutine
from typing import Any

from arriero.base.errors import BudgetExceeded, RateLimited
from arriero.core.ask import Ask
from arriero.core.limits import headers, lacking
from arriero.core.meter import Reservation, Subject
from arriero.peers.link import Link
from arriero.server.admitted import Admission
from arriero.server.exchange import Exchange
from arriero.server.holds import Held
from arriero.server.tries import Tries


def reserve(
    exchange: Exchange, admission: Admission, tries: Tries, tokens: int
) -> Coroutine[Any, Any, None] | None:
    """Let a request of about so many tokens in, and return what to wait for: mostly nothing.

    That is the other gateways' answer, or that enough of the others have ended. Raises RateLimited,
    BudgetExceeded; waiting does, too, and QueueTimeout. The exchange settles it, however it ends.
    """
    meter = admission.meter
    if (
        meter is not None
        and tries.alias.settings.limits is None
        and not exchange.gateway.holds.waiting
    ):
        # A request counts from when it came, which is now, unless its body was slow.
        taken = meter.tab.take(tokens, exchange.started_s)
        if taken is not None:
            exchange.reservation = taken
            exchange.extra_head += taken.headers
            return None
    return _reserve(exchange, admission, tries, tokens)


def _reserve(
    exchange: Exchange, admission: Admission, tries: Tries, tokens: int
) -> Coroutine[Any, Any, None] | None:
    """Do so when it is not known beforehand that there is room."""
    gateway, key, alias = exchange.gateway, admission.key, tries.alias
    clock, limiter = gateway.clock, gateway.limiter
    now_s = clock.now_s()
    subjects = limiter.subjects(key, alias.name, alias.settings.limits)
    admission.meter = limiter.own_meter(key)  # which is there now
    if gateway.peers is not None and lacking(subjects, tokens, now_s, clock.unix_s()):
        return _ask_others(exchange, subjects, tries, tokens)
    if _enter(exchange, subjects, tokens, now_s):
        return None
    return _in_line(exchange, tries.ask(), now_s)


def _enter(exchange: Exchange, subjects: tuple[Subject, ...], tokens: int, now_s: float) -> bool:
    """Let the request in by all limits; False: it has to wait until enough of the others ended."""
    gateway = exchange.gateway
    try:
        reservation = gateway.limiter.admit(subjects, tokens, now_s, gateway.clock.unix_s())
    except (RateLimited, BudgetExceeded) as refused:
        gateway.counters.limit_refused(refused.code)
        raise
    exchange.reservation = reservation
    exchange.extra_head += headers(reservation)
    return gateway.holds.enter(reservation)


async def _ask_others(
    exchange: Exchange, subjects: tuple[Subject, ...], tries: Tries, tokens: int
) -> None:
    link = exchange.gateway.peers
    assert link is not None, "somebody lacks a share"
    claiming = exchange.ongoing = Claiming(link, exchange)
    link.wait(claiming.go_on)
    try:
        await exchange
    finally:
        exchange.ongoing = None
    now_s = exchange.gateway.clock.now_s()
    if not _enter(exchange, subjects, tokens, now_s):
        await _in_line(exchange, tries.ask(), now_s)


async def _in_line(exchange: Exchange, ask: Ask, now_s: float) -> None:
    """Wait until enough of the others have ended."""
    gateway, reservation = exchange.gateway, exchange.reservation
    assert isinstance(reservation, Reservation), "it was let in by the other limits"
    limits = exchange.runtime.config.queue
    wait_s: float = getattr(limits, f"{ask.priority.name.lower()}_deadline_s")
    held = Held(gateway.holds, exchange, reservation, now_s + wait_s)
    gateway.holds.join(held)
    exchange.ongoing = held
    try:
        await exchange
    finally:
        exchange.ongoing = None
        exchange.record.queue_s += gateway.clock.now_s() - now_s


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
