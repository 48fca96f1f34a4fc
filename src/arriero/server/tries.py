"""One request's way through the fleet: whom to ask next, when to wait, when to give up."""

from collections.abc import Sequence

import msgspec

from arriero.base.errors import GatewayError, NoBackend, QueueFull, UnknownModel
from arriero.core.ask import Ask, ask_for
from arriero.core.attempts import BUSY_RETRY_AFTER_S, RULES, End, Next, more_telling
from arriero.core.catalog import retry_after_s
from arriero.core.claims import LOOK_INTERVAL_S
from arriero.core.fairness import Charge
from arriero.core.fleet import Alias, Target
from arriero.core.learning import Sent, answered, sent
from arriero.core.line import Ticket
from arriero.core.overflow import SAMPLE_BYTES_MIN, text_bytes
from arriero.core.principal import Caller
from arriero.core.roster import Station
from arriero.core.routing import askable, open_mask
from arriero.core.strategies import ADAPTIVE, choose
from arriero.server.attempt import Attempt
from arriero.server.batch import Share, batch_key
from arriero.server.dispatch import Turn, Waiting
from arriero.server.exchange import Exchange
from arriero.server.length import too_long
from arriero.wire.canonical import CanonicalRequest, Usage
from arriero.wire.verdict import CONTEXT_EXCEEDED


class Tries(msgspec.Struct, eq=False):
    """Whom to ask next, and what to say when nobody is left.

    A request is charged once, when its turn comes for the first time. `company` are requests that
    are to be answered together with it.
    """

    _exchange: Exchange
    alias: Alias
    _caller: Caller
    _wanted: CanonicalRequest
    _body_bytes: int
    _ask: Ask | None = None  # once it matters
    _alone: bool = False  # not to be answered together with others
    tried: int = 0  # mask
    charge: Charge | None = None
    company: Sequence[Ticket] = ()
    _failures: int = 0  # those that count against the alias's retries
    _last: GatewayError | None = None
    _told: bytes = b""
    _sent: Sent | None = None  # only where `adaptive` learns from it

    def ask(self) -> Ask:
        """Return what scheduling has to know of the request."""
        ask = self._ask
        if ask is None:
            ask = self._ask = ask_for(self._caller, self._wanted, self._body_bytes)
        return ask

    def at_once(self) -> Target | None:
        """Return whom to ask now, None if the request has to wait.

        Raises the last failure, or NoBackend, when there is nobody to wait for.
        """
        shared = self._exchange.runtime.fleet.roster.shared
        if shared is None:
            return self._choose()
        before, now_s = self.tried, self._exchange.started_s
        if now_s - shared.looked_s < LOOK_INTERVAL_S:
            target = self._choose()
            if target is not None and shared.claim(target.station):
                return target
            self.tried = before
        shared.looked_s = now_s
        shared.catch_up()
        for _ in self.alias.targets:
            target = self._choose()
            if target is None or shared.claim(target.station):
                return target
            self.tried = before  # another worker was first: it is closed now, and not tried
        return None

    def _choose(self) -> Target | None:
        """Return whom to ask as far as this worker knows. Raises as `at_once`."""
        alias, exchange, tried = self.alias, self._exchange, self.tried
        gateway, fleet = exchange.gateway, exchange.runtime.fleet
        # The first decision is a few microseconds after the start: that clock reading will do. Not
        # so after a wait: a host that may be tried again by now would seem closed still.
        first = not tried and self.charge is None
        now_s = exchange.started_s if first else gateway.clock.now_s()
        mask: int | None = open_mask(alias, fleet.roster, now_s) & ~tried
        if not mask:
            mask = askable(alias, fleet.roster, now_s, tried)
            if mask is None:
                raise self._last or _nobody(exchange, alias)
            if not mask:
                return None
        ask = None
        if alias.is_weighed:
            ask = self.ask()
            if self.charge is None:
                queue = gateway.queue
                if queue.waiting and queue.contended(alias):
                    return None
                self.charge = exchange.charge = queue.charge(alias, ask)
        target = choose(alias, mask, fleet.roster, ask, fleet.turn)
        self.tried = tried | target.station.host.bit
        return target

    def sent_to(self, station: Station) -> None:
        """The request is sent: what is known of the station's prompt cache changes."""
        alias = self.alias
        if (
            alias.strategy == ADAPTIVE and len(alias.by_bit) > 1
        ):  # of one host, nothing is to choose
            self._sent = sent(station, self.ask())

    def answered(self, usage: Usage | None) -> None:
        """The answer is complete: it tells how many tokens there were, and how fast they came."""
        if usage is not None and self._body_bytes >= SAMPLE_BYTES_MIN:
            ratios = self._exchange.runtime.fleet.roster.ratios
            model = self.alias.branches[0].group.model
            ratios.learn(model, text_bytes(self._wanted), usage.prompt_tokens)
        note = self._sent
        if note is not None and usage is not None:
            answered(note, usage)

    async def in_turn(self) -> Target | Share:
        """Wait for a slot, and return whom to ask then, or the answer if others asked for it too.

        Raises QueueFull, QueueTimeout, and what `at_once` raises.
        """
        while True:
            turn = await self._wait()
            if isinstance(turn, Share):
                return turn
            try:
                target = self.at_once()
            except GatewayError:
                self.send_back(turn.company)
                raise
            if target is not None:
                self.company = turn.company
                return target
            self.send_back(turn.company)

    def send_back(self, company: Sequence[Ticket]) -> None:
        """Let those wait again, first of all, whom nobody takes along after all."""
        gateway = self._exchange.gateway
        for ticket in company:
            ticket.batch = None
            gateway.queue.join(ticket, gateway.clock.now_s())

    async def _wait(self) -> Turn | Share:
        exchange, alias, record = self._exchange, self.alias, self._exchange.record
        gateway = exchange.gateway
        queue, begun_s = gateway.queue, gateway.clock.now_s()
        batch = None if self._alone else batch_key(self._wanted)
        ticket = Ticket(
            alias, self.ask(), exchange, tried=self.tried, charge=self.charge, batch=batch
        )
        try:
            queue.join(ticket, begun_s)
        except QueueFull as full:
            gateway.counters.queue_refused(full.reason)
            raise
        exchange.ongoing = Waiting(queue, ticket)
        gateway.dispatcher.look_at(ticket, begun_s)
        try:
            turn = await exchange
        finally:
            record.queue_s += gateway.clock.now_s() - begun_s
        exchange.ongoing = None
        self.charge = exchange.charge = ticket.charge
        self._tell_wait()
        assert isinstance(turn, Turn | Share)
        return turn

    def _tell_wait(self) -> None:
        """Tell the wait in a header; one sum for all waits of the request."""
        exchange = self._exchange
        told = b"X-Arriero-Queue-Ms: %d\r\n" % int(exchange.record.queue_s * 1000)
        exchange.extra_head = exchange.extra_head.replace(self._told, b"") + told
        self._told = told

    def only(self, hosts: int) -> None:
        """From now on ask these hosts, each of them once more, and nobody else."""
        self.tried = ~hosts

    def failed(self, attempt: Attempt, end: object) -> None:
        """Note a failed attempt. Raises its error unless somebody else may be asked."""
        assert isinstance(end, End)
        step = RULES[end].next
        error = error_of(attempt, end)
        if error.code == CONTEXT_EXCEEDED and attempt.failure is not None:
            roster = self._exchange.runtime.fleet.roster
            error = too_long(attempt.failure, self._wanted, self.alias, roster)
        self._last = more_telling(self._last, error)
        if step is Next.RETRY:
            self._failures += 1
        if step is Next.STOP or self._exchange.record.first_token_s >= 0:
            raise error
        if self._failures > self.alias.retries:
            raise self._last

    def failed_together(self, share: Share) -> None:
        """Note that a batch failed; raises as `failed`.

        What would fail anywhere may be another's fault: then each begins again, without company.
        """
        bit = share.target.host.bit
        self.company = ()
        if RULES[share.end].next is Next.STOP:
            self._alone = True
            self.tried &= ~bit
        else:
            self.tried |= bit
            self.failed(share.attempt, share.end)


def _nobody(exchange: Exchange, alias: Alias) -> GatewayError:
    """Return the error when no backend could even be asked."""
    if not any(target.host.has(target.model) for target in alias.targets):
        return UnknownModel(
            f"no backend has the model of `{alias.name}` installed",
            param="model",
            hint="pull it on a backend; the gateway notices by itself",
        )
    return NoBackend(
        f"every backend of `{alias.name}` is down",
        retry_after_s=retry_after_s(alias, exchange.gateway.clock.now_s()),
    )


def error_of(attempt: Attempt, end: End) -> GatewayError:
    """Return what tells the client of a failed attempt, should nobody else answer."""
    rule, failure = RULES[end], attempt.failure
    if rule.error is NoBackend:
        return NoBackend(rule.message, retry_after_s=BUSY_RETRY_AFTER_S)
    if failure is None or rule.error is UnknownModel:
        return rule.error(rule.message, param="model" if rule.error is UnknownModel else None)
    return rule.error(f"{rule.message}: {failure.message}", param=failure.param, code=failure.code)
