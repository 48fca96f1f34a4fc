"""A stream whose backend is gone: who goes on with it, and how that went.

`core/resume.py` decides what may be resumed and what is asked for; here that is put together with
what the gateway knows of its hosts, and counted and told. The pipeline sends and waits.

When nobody who may go on can be reached, the stream waits for `routing.resume_wait_s`: a switch
that starts anew, or a service that does, takes all hosts away for some seconds. Whoever is back
first goes on, be it the one that broke off.

Each break has one outcome, in the metric and in one line of the log: `resumed` when new text has
come from elsewhere, `completed` when nothing was missing but the end, `refused` when nobody may go
on, and `failed` when those who were asked could not.
"""

from collections.abc import Callable
from typing import NamedTuple

from arriero.base.errors import GatewayError
from arriero.core.attempts import RULES, End, Next
from arriero.core.fleet import Alias, Target
from arriero.core.health import Cause
from arriero.core.prefill import Ending, Prefill, template_of
from arriero.core.resume import (
    Refusal,
    Seat,
    continued,
    ending,
    finished,
    is_text,
    limits,
    refusal,
)
from arriero.core.routing import usable_mask
from arriero.core.seam import Seam
from arriero.core.transcript import Transcript
from arriero.server.exchange import Exchange
from arriero.server.relay import PassthroughRelay, StreamOut, StreamRelay
from arriero.wire.canonical import CanonicalRequest, Chat, Chunk, Completion, Usage
from arriero.wire.dialect import AnswerEncoder, BackendDialect, Failure, StreamDecoder
from arriero.wire.openai_chat_continued import ContinuedChatAnswer
from arriero.wire.openai_sent import SentEvents

Relay = StreamRelay | PassthroughRelay
BACKENDS_MIN = 2  # a stream of which there is no other is not remembered
_GONE = frozenset((Cause.REFUSED, Cause.LOST))  # there may be another process in its place soon


def track(relay: Relay, wanted: CanonicalRequest, alias: Alias) -> bool:
    """Have a relay remember what it sends, if that may ever be gone on with; say if it does."""
    if len(alias.targets) < BACKENDS_MIN or not is_text(wanted):
        return False
    if isinstance(relay, StreamRelay):
        relay.transcript = Transcript()
    else:
        relay.events = SentEvents()
    return True


def verify(exchange: Exchange, alias: Alias, target: Target, relay: Relay) -> None:
    """Have the target's template verified once the stream has begun, unless it is known."""
    gateway = exchange.gateway
    template = template_of(target.host, target.model)
    if template is not None and gateway.verdicts.get(template) is None:
        relay.on_sent = lambda: gateway.nudge(alias, target)


class Lost(NamedTuple):
    """Who broke off, how, and what the client is told of it if nobody goes on."""

    target: Target
    end: End
    error: GatewayError


class Broken:
    """A stream that broke off after its client had part of the answer."""

    __slots__ = (
        "_exact", "_failed", "_failures", "_limits", "_lost", "_out", "_resumptions", "_sent",
        "_until_s", "_wanted", "alias", "encoder", "exchange", "hosts",
    )  # fmt: skip

    def __init__(
        self, exchange: Exchange, wanted: CanonicalRequest, alias: Alias, relay: Relay, lost: Lost
    ) -> None:
        assert isinstance(wanted, Chat | Completion)
        self.exchange = exchange
        self.alias = alias
        self.hosts = 0  # mask: who may be asked to go on
        self._wanted = wanted
        self._limits = limits(wanted, alias.settings)
        self._sent, self.encoder = _remembered(exchange, wanted, relay)
        self._resumptions = 0  # that brought new text
        self._begin(lost)

    def _begin(self, lost: Lost) -> None:
        """Take note of a break."""
        self._lost = lost
        self._failures = 0
        self._failed = ""  # how the last one who was asked to go on could not
        self._exact = True
        # Mask: who is not asked again, even after coming back.
        self._out = 0 if RULES[lost.end].mark in _GONE else lost.target.host.bit
        wait_s = self.exchange.runtime.config.routing.resume_wait_s
        until_s = self.exchange.gateway.clock.now_s() + wait_s
        self._until_s = min(until_s, self.exchange.deadline_s)

    def look(self) -> bool:
        """Find out who may go on; True when nobody has to, and the stream was ended.

        Raises the error when nobody may.
        """
        reason = self._refusal()
        if reason is None and finished(self._sent, self._limits):
            self._finish()
            return True
        if reason is None:
            self.hosts, reason = self._candidates()
            if reason is Refusal.AWAY:
                return False
        if reason is not None:
            self._tell("stream not resumed", "refused", reason.value)
            raise self._lost.error
        return False

    def _refusal(self) -> Refusal | None:
        if RULES[self._lost.end].next is Next.STOP:
            return Refusal.LOOPING
        if len(self.alias.targets) < BACKENDS_MIN:
            return Refusal.NOBODY
        return refusal(self._wanted, self._sent, self._resumptions)

    def _candidates(self, *, back: bool = False) -> tuple[int, Refusal | None]:
        """Return the hosts whose model would go on with this very text, or why there are none.

        The one that broke off is among them only when it has come back.
        """
        begun = bool(self._sent.text())
        lost = self._lost.target
        hosts, reason = 0, Refusal.NOBODY
        for target in self.alias.targets:
            if target.host is lost.host and not back:
                continue
            if begun and not _same_weights(target, lost):
                continue
            ends = ending(self._wanted, self._sent, self._seat(target)) if begun else Ending.KEPT
            if ends:
                hosts |= target.host.bit
            elif target.host.kind == "ollama" and not target.host.version:
                reason = Refusal.AWAY  # nobody knows what it will be when it is back
            elif reason is not Refusal.AWAY:
                reason = Refusal.UNVERIFIED if ends is None else Refusal.CLOSED
        return hosts, None if hosts else reason

    def _seat(self, target: Target) -> Seat:
        host = target.host
        template = template_of(host, target.model)
        known: Prefill | None = None
        if template is not None:
            known = self.exchange.gateway.verdicts.get(template)
        listed = (host.installed or {}).get(target.model)
        thinks = listed is not None and "thinking" in listed.capabilities
        return Seat(host.kind, known, thinks)

    def _finish(self) -> None:
        """Send the end, which is all that is missing."""
        pieces = self.exchange.record.completion_tokens = self._sent.pieces
        last = b""
        if not self._sent.finished:
            usage = Usage(0, pieces)  # nobody has told what the prompt came to
            last = self.encoder.chunk(Chunk(finish_reason="length", usage=usage))
        self.exchange.end_stream(last + self.encoder.end())
        self._tell("stream completed", "completed", self._lost.end.value)

    def go_on(self, target: Target, dialect: BackendDialect) -> tuple[CanonicalRequest, Relay]:
        """Return what to ask the target for, and the relay that joins its answer to the stream."""
        seat = self._seat(target)
        plan = continued(self._wanted, self._sent, self._limits, seat, exact=self._exact)
        if isinstance(plan, Refusal):  # another model on a host of a candidate
            raise self.give_up(plan.value)
        self._exact = plan.exact
        decoder = dialect.stream_decoder(plan.request, self.exchange.id)
        joined = _Joined(decoder, plan.seam)
        relay = _ContinuedRelay(joined, self.encoder, self.exchange, dialect.decode_stream_error)
        relay.transcript = self._sent
        relay.on_sent = lambda: self._resumed(target)
        return plan.request, relay

    def _resumed(self, target: Target) -> None:
        """New text has come from elsewhere."""
        self._resumptions += 1
        self.exchange.record.resumed += 1
        self._tell("stream resumed", "resumed", self._lost.end.value, target)

    def failed(self, relay: Relay, lost: Lost) -> bool:
        """Note how an attempt to go on ended; True when that was the stream's end after all.

        Raises the error when nobody is left to be asked.
        """
        if relay.sent:  # it did go on, and broke off itself
            self._begin(lost)
            return self.look()
        rule, bit = RULES[lost.end], lost.target.host.bit
        self._failed = lost.end.value
        if lost.end is End.DIVERGED and self._exact:
            self._exact = False  # the same host may go on with the whole text
        else:
            self.hosts &= ~bit
            self._out |= 0 if rule.mark in _GONE else bit
        self._failures += rule.next is Next.RETRY
        if rule.next is Next.STOP or self._failures > self.alias.retries:
            raise self.give_up(self._failed)
        return False

    async def comeback(self) -> bool:
        """Wait until somebody who may go on can be reached again; False when that takes too long.

        Raises ClientGone, and BackendTimeout when the request's own time is over.
        """
        self.hosts = 0
        hosts, reason = self._candidates(back=True)
        waits = self.exchange.gateway.clock.now_s() < self._until_s
        if waits and (hosts & ~self._out or reason is Refusal.AWAY):
            self.exchange.ongoing = _Away(self.exchange, self._is_over)
            await self.exchange
            self.exchange.ongoing = None
        return bool(self.hosts)

    def _is_over(self, now_s: float) -> bool:
        """Say whether the wait for a host is: one is back, or it took too long."""
        roster = self.exchange.runtime.fleet.roster
        usable = usable_mask(self.alias, roster, now_s) & ~self._out
        if usable:
            self.hosts = usable & self._candidates(back=True)[0]
        return bool(self.hosts) or now_s >= self._until_s

    def give_up(self, reason: str) -> GatewayError:
        """Note that nobody who may go on can do so; return what the client is told."""
        self._tell("stream not resumed", "failed", self._failed or reason)
        return self._lost.error

    def _tell(self, event: str, outcome: str, reason: str, to: Target | None = None) -> None:
        gateway = self.exchange.gateway
        gateway.counters.resumption(outcome)
        told: dict[str, object] = {
            "request_id": self.exchange.id,
            "alias": self.alias.name,
            "backend": self._lost.target.host.name,
            "reason": reason,
        }
        if to is not None:
            told["resumed_on"] = to.host.name
        gateway.events.warning(event, extra=told)


class _Away:
    """What an exchange is doing while nobody can go on with its stream."""

    __slots__ = ("_exchange", "_is_over")

    def __init__(self, exchange: Exchange, is_over: Callable[[float], bool]) -> None:
        self._exchange = exchange
        self._is_over = is_over

    def sweep(self, now_s: float) -> None:
        """Look whether somebody is back."""
        if self._is_over(now_s):
            self._exchange.resume(None)

    def pause(self) -> None:
        """Nothing arrives while it waits."""

    def unpause(self, now_s: float) -> None:
        """Nothing was held back."""

    def cancel(self) -> None:
        """The client is gone, or the request's time is over: nobody has to be told."""


class _Joined:
    """A decoder whose chunks are joined to a stream that was begun elsewhere."""

    __slots__ = ("_decoder", "finished", "seam")

    def __init__(self, decoder: StreamDecoder, seam: Seam) -> None:
        self._decoder = decoder
        self.seam = seam
        self.finished = False

    def feed(self, data: bytes) -> list[Chunk]:
        """Return what is new. Raises ValueError on what is not the format, and Diverged."""
        chunks = self.seam.feed(self._decoder.feed(data))
        self.finished = self._decoder.finished
        return chunks


class _ContinuedRelay(StreamRelay):
    """Relays a continuation; a stop string that is completed at the seam ends it."""

    __slots__ = ("_seam",)

    def __init__(
        self,
        joined: _Joined,
        encoder: AnswerEncoder,
        out: StreamOut,
        explain: Callable[[str], Failure],
    ) -> None:
        super().__init__(joined, encoder, out, explain)
        self._seam = joined.seam

    def feed(self, data: bytes) -> End | None:
        """Send what is new of one read."""
        end = super().feed(data)
        return End.ANSWERED if self._seam.stopped else end


def _remembered(
    exchange: Exchange, wanted: Chat | Completion, relay: Relay
) -> tuple[Transcript, AnswerEncoder]:
    """Return what a relay has sent, and what writes on in the same form."""
    assert exchange.encoder is not None
    if isinstance(relay, StreamRelay):
        return relay.transcript or Transcript(), exchange.encoder
    sent = Transcript()
    if relay.events is None:
        return sent, exchange.encoder
    try:
        chunks, whole_id, created = relay.events.read()
    except ValueError:  # no client could read that either
        sent.lost = True
        return sent, exchange.encoder
    sent.add(chunks)
    sent.lost = relay.events.full
    alias, include_usage = exchange.record.alias, wanted.include_usage
    return sent, ContinuedChatAnswer(whole_id, created, alias, include_usage=include_usage)


def _same_weights(one: Target, other: Target) -> bool:
    """Say whether two targets would write the same answer, as far as is known."""
    if one.host.kind != other.host.kind:
        return False
    if one.host.kind == "openai":
        return one.model == other.model  # it does not tell its weights: the configuration's word
    digests = [(side.host.installed or {}).get(side.model) for side in (one, other)]
    known = [listed.digest for listed in digests if listed is not None and listed.digest]
    return len(known) == len(digests) and known[0] == known[1]
