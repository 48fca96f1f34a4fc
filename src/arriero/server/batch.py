"""Embedding requests of one text each that waited for the same model, answered by one call.

Open WebUI sends the hundreds of pieces of a document as single requests, all at once. Those that
wait anyway go to the backend together when the turn of one of them comes; none ever waits for
company. Each client gets its own vector, its share of the tokens, and its own error; one that
leaves only leaves the batch.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import msgspec

from arriero.core.attempts import End
from arriero.core.fleet import Target
from arriero.core.line import Ticket
from arriero.server.attempt import Attempt
from arriero.server.exchange import Exchange
from arriero.server.gateway import Gateway
from arriero.server.operations import EMBEDDING, Answering, Operation
from arriero.wire.canonical import CanonicalRequest, Embedding, Usage, Vectors
from arriero.wire.dialect import BackendDialect


def batch_key(wanted: CanonicalRequest) -> object:
    """Return what must be equal for two requests of one alias to be answered together.

    None for what is no single text: who sends lists has batched them already.
    """
    if not isinstance(wanted, Embedding) or len(wanted.inputs) != 1:
        return None
    options = tuple(sorted((name, bytes(value)) for name, value in wanted.model_options.items()))
    return (wanted.dimensions, wanted.keep_alive, options)


class Share(msgspec.Struct, eq=False):
    """One member's part of how a batch ended; `vectors` is None unless it was answered."""

    end: End
    target: Target
    attempt: Attempt
    vectors: Vectors | None


class Batch:
    """Several requests as one; their exchanges wait for it, and it for its attempt."""

    __slots__ = ("_inputs", "_members", "_vectors", "attempt", "gateway", "request")

    write_paused = False  # an answer is written when all of it is there

    def __init__(self, leader: Exchange, wanted: Embedding, company: Sequence[Ticket]) -> None:
        """Gather the requests; `attempt` must be set before the loop goes on."""
        self.gateway: Gateway = leader.gateway
        self._members: dict[Exchange, int] = {leader: 0}
        self._inputs = list(wanted.inputs)
        for ticket in company:
            exchange, request = ticket.waiter, ticket.ask.request
            assert isinstance(exchange, Exchange)
            assert isinstance(request, Embedding)
            self._members[exchange] = len(self._inputs)
            self._inputs += request.inputs
        self.request = msgspec.structs.replace(wanted, inputs=self._inputs)
        self._vectors: Vectors | None = None
        self.attempt: Attempt | None = None

    def operation(self) -> Operation:
        """Return how the backend's answer is taken in: kept here until it is divided."""
        return Operation(EMBEDDING.name, EMBEDDING.decode, self._keep)

    def _keep(
        self,
        wanted: CanonicalRequest,
        answering: Answering,  # noqa: ARG002 - an operation's signature
        dialect: BackendDialect,
        body: bytes,
    ) -> tuple[bytes, Usage | None]:
        vectors = dialect.decode_vectors(body)
        assert isinstance(wanted, Embedding)
        if len(vectors.vectors) != len(wanted.inputs):
            raise ValueError("there is not one vector for each input")
        self._vectors = vectors
        return b"", vectors.usage

    def board(self, attempt: Attempt) -> None:
        """Let all members wait for the attempt, whose lease was taken for the first of them."""
        self.attempt = attempt
        host = attempt.lease.target.host
        for exchange, at in self._members.items():
            exchange.ongoing = Seat(self, exchange)
            if at:
                exchange.record.backend = host.name
                exchange.record.attempts += 1

    def resume(self, end: object) -> None:
        """Tell each member how it ended."""
        attempt = self.attempt
        assert attempt is not None
        assert isinstance(end, End)
        members, self._members = self._members, {}
        divided = self._divided() if end is End.ANSWERED else None
        for exchange, at in members.items():
            own = divided[at] if divided is not None else None
            exchange.resume(Share(end, attempt.lease.target, attempt, own))

    def _divided(self) -> list[Vectors]:
        assert self._vectors is not None
        tokens = divide(self._vectors.usage.prompt_tokens, [len(text) for text in self._inputs])
        return [
            Vectors([vector], Usage(own))
            for vector, own in zip(self._vectors.vectors, tokens, strict=True)
        ]

    def leave(self, exchange: Exchange) -> None:
        """A member's client is gone; the last one ends the call."""
        self._members.pop(exchange, None)
        if not self._members and self.attempt is not None:
            self.attempt.cancel()


class Seat:
    """What a member is doing while its batch is under way."""

    __slots__ = ("_batch", "_exchange")

    def __init__(self, batch: Batch, exchange: Exchange) -> None:
        self._batch = batch
        self._exchange = exchange

    def sweep(self, now_s: float) -> None:
        """Look at the call's deadline; whoever of the members is first to look will do."""
        if self._batch.attempt is not None:
            self._batch.attempt.sweep(now_s)

    def pause(self) -> None:
        """A slow client holds up nobody else."""

    def unpause(self, now_s: float) -> None:
        """Nothing was held up."""

    def cancel(self) -> None:
        """Leave the batch, which goes on for the others."""
        self._batch.leave(self._exchange)


def divide(total: int, lengths: list[int]) -> list[int]:
    """Return shares of `total` in proportion to `lengths` (plus one), whose sum is exactly it.

    Backends count the tokens of a call and not of each text in it.
    """
    edges = [0, *accumulate(length + 1 for length in lengths)]
    marks = [total * edge // edges[-1] for edge in edges]
    return [after - before for before, after in pairwise(marks)]
