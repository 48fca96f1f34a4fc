"""The life of a request, top to bottom: the one place that holds its ifs.

    head+body -> authenticate -> decode -> alias -> queue -> route -> attempt -> relay -> settle
                                                    ^---------- another backend -----'

Errors are raised and answered by the exchange, which also settles. Nothing is asked again once a
byte of an answer has reached the client; but its rest may be asked for (`resume`).
"""

from arriero.base.errors import GatewayError, Unauthorized
from arriero.core.access import check_model
from arriero.core.ask import tokens_of
from arriero.core.attempts import End
from arriero.core.capabilities import adapt
from arriero.core.fleet import Alias, Target, take_lease
from arriero.fleet.loader import must_load
from arriero.server.admitted import admission_of
from arriero.server.attempt import Attempt, Reader, Waiter
from arriero.server.batch import Batch, Share
from arriero.server.exchange import Exchange
from arriero.server.keyapi import ask_key_api
from arriero.server.length import check_length
from arriero.server.operations import Operation
from arriero.server.relay import PassthroughRelay, StreamRelay, WholeReader
from arriero.server.reserve import reserve
from arriero.server.resume import Broken, Lost, track, verify
from arriero.server.routes import View
from arriero.server.tries import Tries, error_of
from arriero.server.views import show, unknown_alias
from arriero.wire.canonical import CanonicalRequest, Chat, Embedding, Usage
from arriero.wire.dialect import AnswerEncoder, BackendDialect
from arriero.wire.ollama import OLLAMA
from arriero.wire.openai_answer import encode_embeddings
from arriero.wire.openai_backend import OPENAI
from arriero.wire.openai_passthrough import Passthrough

BACKEND_DIALECTS: dict[str, BackendDialect] = {"ollama": OLLAMA, "openai": OPENAI}


async def serve(exchange: Exchange) -> None:
    """Answer one request."""
    record = exchange.record
    try:
        admission = admission_of(exchange)
    except Unauthorized as refused:
        await _look_again(exchange, refused)
        admission = admission_of(exchange)
    route, caller, key = admission.route, admission.caller, admission.key
    record.path = admission.path
    record.principal = caller.key
    record.user = caller.user
    record.operation = route.name
    body = exchange.body_at_hand() or await exchange.body()
    operation = route.operation
    if operation is None:
        if route.view is View.KEY_API:
            await ask_key_api(exchange, key, body)
        else:
            show(exchange, route, key)
        return
    wanted = operation.decode(body)
    check_model(key, wanted.model)
    alias = exchange.runtime.fleet.aliases.get(wanted.model)
    if alias is None:
        raise unknown_alias(exchange.runtime.fleet, wanted.model)
    _fit(exchange, wanted, alias, len(body))
    tries = Tries(exchange, alias, caller, wanted, len(body))
    if admission.limited or alias.settings.limits:
        waiting = reserve(exchange, admission, tries, tokens_of(wanted, len(body)))
        if waiting is not None:
            await waiting
    if operation.encoder is not None and wanted.stream:
        record.stream = True
        await _serve_stream(exchange, operation, wanted, tries)
    else:
        await _serve_whole(exchange, operation, wanted, tries)


async def _look_again(exchange: Exchange, refused: Unauthorized) -> None:
    """Wait until keys are known that were made elsewhere. Raises `refused` where that is no use."""
    headers, looks = exchange.request.headers, exchange.gateway.second_look
    has_key = b"authorization" in headers or b"x-api-key" in headers
    if looks is None or not has_key or not looks.join(exchange):
        raise refused
    await exchange


def _fit(exchange: Exchange, wanted: CanonicalRequest, alias: Alias, body_bytes: int) -> None:
    """Make the request one that its alias can answer, and tell what that cost."""
    exchange.record.alias = alias.name
    exchange.deadline_s = exchange.started_s + alias.total_s
    if adapt(wanted, alias):
        exchange.gateway.counters.tools_dropped(alias.name)
    if wanted.ignored:
        exchange.tell_ignored(wanted.ignored)
    check_length(wanted, alias, exchange.runtime.fleet.roster, body_bytes)


# -- one backend after the other, until one answers or nobody is left to ask


async def _serve_whole(
    exchange: Exchange, operation: Operation, wanted: CanonicalRequest, tries: Tries
) -> None:
    """Reply with a whole answer."""
    while True:
        target = tries.at_once() or await tries.in_turn()
        if isinstance(target, Share):
            share = target
        elif tries.company:
            share = await _serve_batch(exchange, wanted, target, tries)
        else:
            reader = WholeReader(exchange, operation, wanted, BACKEND_DIALECTS[target.host.kind])
            attempt = _start(exchange, wanted, target, tries, reader)
            end = await exchange
            exchange.ongoing = None
            if end is End.ANSWERED:
                _count(exchange, reader.usage)
                tries.answered(reader.usage)
                exchange.reply(200, reader.written, extra=exchange.extra_head)
                return
            tries.failed(attempt, end)
            continue
        if _take_share(exchange, wanted, share, tries):
            return


async def _serve_batch(
    exchange: Exchange, wanted: CanonicalRequest, target: Target, tries: Tries
) -> Share:
    """Ask once for all of a batch; everyone in it is resumed with a share."""
    assert isinstance(wanted, Embedding)
    batch = Batch(exchange, wanted, tries.company)
    dialect = BACKEND_DIALECTS[target.host.kind]
    reader = WholeReader(exchange, batch.operation(), batch.request, dialect)
    try:
        attempt = _start(exchange, batch.request, target, tries, reader, batch)
    except GatewayError:
        tries.send_back(tries.company)
        raise
    batch.board(attempt)
    share = await exchange
    assert isinstance(share, Share)
    return share


def _take_share(exchange: Exchange, wanted: CanonicalRequest, share: Share, tries: Tries) -> bool:
    """Answer with a member's part of a batch; False: it has to be asked for again."""
    exchange.ongoing = None
    if share.vectors is not None:
        assert isinstance(wanted, Embedding)
        _count(exchange, share.vectors.usage)
        body = encode_embeddings(share.vectors, wanted.encoding, exchange.record.alias)
        exchange.reply(200, body, extra=exchange.extra_head)
        return True
    tries.failed_together(share)
    return False


async def _serve_stream(
    exchange: Exchange, operation: Operation, wanted: CanonicalRequest, tries: Tries
) -> None:
    """Relay a stream; the exchange speaks for us when it breaks."""
    assert operation.encoder is not None
    while True:
        # Before the wait for a slot, which the encoder's heartbeats and errors may fall into.
        encoder = exchange.encoder = operation.encoder(wanted, exchange)
        target = tries.at_once() or await tries.in_turn()
        assert isinstance(target, Target)
        relay = _relay(exchange, wanted, target, encoder)
        if track(relay, wanted, tries.alias):
            verify(exchange, tries.alias, target, relay)
        attempt = _start(exchange, wanted, target, tries, relay)
        end = await exchange
        exchange.ongoing = None
        _count(exchange, relay.usage)
        if end is End.ANSWERED:
            tries.answered(relay.usage)
            exchange.end_stream(encoder.end() if isinstance(relay, StreamRelay) else b"")
            return
        if relay.sent:
            broken = Broken(exchange, wanted, tries.alias, relay, _lost(attempt, end))
            await _go_on(broken, tries)
            return
        tries.failed(attempt, end)


async def _go_on(broken: Broken, tries: Tries) -> None:
    """Have the rest of a stream that broke off written elsewhere."""
    exchange = broken.exchange
    done = broken.look()
    while not done:
        try:
            target = await _who_goes_on(broken, tries)
        except GatewayError as nobody:
            raise broken.give_up(nobody.code) from None
        wanted, relay = broken.go_on(target, BACKEND_DIALECTS[target.host.kind])
        attempt = _start(exchange, wanted, target, tries, relay)
        end = await exchange
        exchange.ongoing = None
        _count(exchange, relay.usage)
        if end is End.ANSWERED:
            exchange.end_stream(broken.encoder.end())
            return
        done = broken.failed(relay, _lost(attempt, end))


async def _who_goes_on(broken: Broken, tries: Tries) -> Target:
    """Return whom to ask, after a wait if need be. Raises why there is nobody."""
    while True:
        tries.only(broken.hosts)
        try:
            target = tries.at_once() or await tries.in_turn()
        except GatewayError:
            if not await broken.comeback():
                raise
        else:
            assert isinstance(target, Target)
            return target


def _lost(attempt: Attempt, end: object) -> Lost:
    assert isinstance(end, End)
    return Lost(attempt.lease.target, end, error_of(attempt, end))


def _relay(
    exchange: Exchange, wanted: CanonicalRequest, target: Target, encoder: AnswerEncoder
) -> StreamRelay | PassthroughRelay:
    kind = target.host.kind
    dialect = BACKEND_DIALECTS[kind]
    if kind == "openai" and isinstance(wanted, Chat):
        through = Passthrough(exchange.record.alias, include_usage=wanted.include_usage)
        return PassthroughRelay(through, exchange, dialect.decode_stream_error)
    decoder = dialect.stream_decoder(wanted, exchange.id)
    return StreamRelay(decoder, encoder, exchange, dialect.decode_stream_error)


def _start(
    exchange: Exchange,
    wanted: CanonicalRequest,
    target: Target,
    tries: Tries,
    reader: Reader,
    waiter: Waiter | None = None,
) -> Attempt:
    """Take the lease and send; from here on the waiter (the exchange) waits for the End."""
    runtime, record, host = exchange.runtime, exchange.record, target.host
    dialect = BACKEND_DIALECTS[host.kind]
    path, body = dialect.encode(wanted, target.model, tries.alias.settings)
    pool = runtime.pools[host.name]
    now_s = exchange.gateway.clock.now_s()
    lease = take_lease(target, runtime.fleet.next_turn(), now_s)
    attempt = Attempt(waiter or exchange, lease, pool, dialect, pool.request(path, body), reader)
    tries.sent_to(target.station)
    exchange.ongoing = attempt
    record.backend = host.name
    record.model = target.station.model
    record.attempts += 1
    timeouts = target.timeouts
    wait_s = timeouts.first_token_s if wanted.stream else timeouts.response_s
    if not target.station.resident and not must_load(target):  # it may have to load by itself
        wait_s += timeouts.load_s
    attempt.start(now_s + wait_s)
    return attempt


def _count(exchange: Exchange, usage: Usage | None) -> None:
    if usage is not None:
        record = exchange.record
        record.prompt_tokens = usage.prompt_tokens
        record.completion_tokens = usage.completion_tokens
        record.cached_tokens = usage.cached_tokens
