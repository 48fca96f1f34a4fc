"""The life of a request, top to bottom: the one place that holds its ifs.

    head+body -> authenticate -> decode -> resolve alias -> route -> attempt -> relay -> settle
                                                           ^------ another backend -----'

Errors are raised and answered by the exchange, which also settles. Nothing is asked again once a
byte of an answer has reached the client.
"""

from arriero.base.errors import GatewayError, NoBackend, Unauthorized, UnknownModel
from arriero.core.access import authenticate
from arriero.core.attempts import BUSY_RETRY_AFTER_S, RULES, End, Next, more_telling
from arriero.core.capabilities import adapt
from arriero.core.catalog import retry_after_s
from arriero.core.fleet import Alias, Host, Lease, Target
from arriero.core.routing import STRATEGIES, candidates, last_resorts
from arriero.server.attempt import Attempt
from arriero.server.exchange import Exchange
from arriero.server.relay import PassthroughRelay, StreamRelay, WholeReader
from arriero.server.routes import Route, View, find_route, no_route
from arriero.server.views import show, unknown_alias
from arriero.wire.canonical import CanonicalRequest, Chat, Completion, Embedding, Usage
from arriero.wire.dialect import AnswerEncoder, BackendDialect
from arriero.wire.http import check_head
from arriero.wire.ollama import OLLAMA
from arriero.wire.openai_answer import ChatAnswer, CompletionAnswer, encode_embeddings
from arriero.wire.openai_backend import OPENAI
from arriero.wire.openai_passthrough import Passthrough

BACKEND_DIALECTS: dict[str, BackendDialect] = {"ollama": OLLAMA, "openai": OPENAI}


async def serve(exchange: Exchange) -> None:
    """Answer one request."""
    request, record = exchange.request, exchange.record
    check_head(request.version, request.headers, request.repeated)
    route = find_route(record.path)
    if not _is_public(exchange, route):
        record.principal = _authenticate(exchange)
    if route is None or request.method not in route.methods:
        raise no_route(route, record.path, request.method)
    record.operation = route.name
    body = await exchange.body()
    if route.decode is None:
        show(exchange, route)
        return
    wanted = route.decode(body)
    alias = exchange.runtime.fleet.aliases.get(wanted.model)
    if alias is None:
        raise unknown_alias(exchange.runtime.fleet, wanted.model)
    record.alias = alias.name
    if adapt(wanted, alias):
        exchange.gateway.metrics.tools_dropped(alias.name)
    await _generate(exchange, wanted, alias)


def _is_public(exchange: Exchange, route: Route | None) -> bool:
    if route is None:  # without a key not even the absence of a path is told
        return False
    return route.public or (
        route.view is View.METRICS and exchange.runtime.config.access.metrics_public
    )


def _authenticate(exchange: Exchange) -> str:
    digest = exchange.runtime.master_digest
    if digest is None:
        raise Unauthorized("this gateway has no master key", hint="set access.master_key")
    return authenticate(exchange.request.headers, digest)


# -- attempts


async def _generate(exchange: Exchange, wanted: CanonicalRequest, alias: Alias) -> None:
    """Ask one backend after the other until one answers, or nobody is left to ask."""
    if wanted.ignored:
        ignored = ", ".join(wanted.ignored)
        exchange.record.ignored = ignored
        exchange.extra_head = b"X-Arriero-Ignored: %b\r\n" % ignored.encode("ascii", "replace")
    streamed = not isinstance(wanted, Embedding) and wanted.stream
    exchange.record.stream = streamed
    exchange.deadline_s = exchange.started_s + alias.total_s
    retries = alias.retries
    tried: list[Host] = []
    last: GatewayError | None = None
    ask = _attempt_stream if streamed else _attempt_whole
    while (target := _choose(exchange, alias, tried)) is not None and retries >= 0:
        tried.append(target.host)
        end, error = await ask(exchange, wanted, alias, target)
        if error is None:
            return
        step = RULES[end].next
        if step is Next.STOP or exchange.record.first_token_s >= 0:
            raise error
        last = more_telling(last, error)
        if step is Next.RETRY:
            retries -= 1
    raise last or _nobody(exchange, alias)


def _choose(exchange: Exchange, alias: Alias, tried: list[Host]) -> Target | None:
    runtime = exchange.runtime
    now_s = exchange.gateway.clock.now_s()
    found = candidates(alias, now_s, tried) or last_resorts(alias, tried)
    if not found:
        return None
    if len(found) == 1:
        return found[0]
    return STRATEGIES[alias.strategy](found, runtime.fleet.turn)


def _nobody(exchange: Exchange, alias: Alias) -> GatewayError:
    """Return the error when no backend could even be asked."""
    if not any(target.host.has(target.model) for target in alias.targets):
        return UnknownModel(
            f"no backend has the model of `{alias.name}` installed",
            param="model",
            hint="pull it on a backend; the gateway notices by itself",
        )
    fleet = exchange.runtime.fleet
    return NoBackend(
        f"every backend of `{alias.name}` is down",
        retry_after_s=retry_after_s(fleet, exchange.gateway.clock.now_s()),
    )


async def _attempt_whole(
    exchange: Exchange, wanted: CanonicalRequest, alias: Alias, target: Target
) -> tuple[End, GatewayError | None]:
    """Ask one backend for a whole answer, and reply with it."""
    reader = WholeReader()
    dialect = BACKEND_DIALECTS[target.host.settings.kind]
    attempt = _start(exchange, wanted, alias, target, reader)
    end = await exchange
    exchange.ongoing = None
    assert isinstance(end, End)
    if end is not End.ANSWERED:
        return end, _error(attempt, end)
    try:
        body, usage = _whole(exchange, wanted, alias, dialect, reader.body())
    except ValueError:
        exchange.gateway.metrics.attempt_failed(target.host.name, End.MALFORMED.value)
        return End.MALFORMED, _error(attempt, End.MALFORMED)
    _count(exchange, usage)
    exchange.reply(200, body, extra=exchange.extra_head)
    return end, None


def _whole(
    exchange: Exchange,
    wanted: CanonicalRequest,
    alias: Alias,
    dialect: BackendDialect,
    body: bytes,
) -> tuple[bytes, Usage | None]:
    """Translate a whole answer. Raises ValueError when it is none."""
    if isinstance(wanted, Embedding):
        vectors = dialect.decode_vectors(body)
        if len(vectors.vectors) != len(wanted.inputs):
            raise ValueError("a vector is missing")
        return encode_embeddings(vectors, wanted.encoding, alias.name), vectors.usage
    chunk = dialect.decode_answer(wanted, body, exchange.id)
    return _encoder(exchange, wanted, alias).whole(chunk), chunk.usage


async def _attempt_stream(
    exchange: Exchange, wanted: CanonicalRequest, alias: Alias, target: Target
) -> tuple[End, GatewayError | None]:
    """Ask one backend for a stream and relay it; the exchange speaks for us when it breaks."""
    assert not isinstance(wanted, Embedding)
    encoder = exchange.encoder = _encoder(exchange, wanted, alias)
    relay = _relay(exchange, wanted, alias, target, encoder)
    attempt = _start(exchange, wanted, alias, target, relay)
    end = await exchange
    exchange.ongoing = None
    assert isinstance(end, End)
    _count(exchange, relay.usage)
    if end is not End.ANSWERED:
        return end, _error(attempt, end)
    exchange.end_stream(encoder.end() if isinstance(relay, StreamRelay) else b"")
    return end, None


def _relay(
    exchange: Exchange,
    wanted: Chat | Completion,
    alias: Alias,
    target: Target,
    encoder: AnswerEncoder,
) -> StreamRelay | PassthroughRelay:
    kind = target.host.settings.kind
    dialect = BACKEND_DIALECTS[kind]
    if kind == "openai" and isinstance(wanted, Chat):
        through = Passthrough(alias.name, include_usage=wanted.include_usage)
        return PassthroughRelay(through, exchange, dialect.decode_stream_error)
    decoder = dialect.stream_decoder(wanted, exchange.id)
    return StreamRelay(decoder, encoder, exchange, dialect.decode_stream_error)


def _start(
    exchange: Exchange,
    wanted: CanonicalRequest,
    alias: Alias,
    target: Target,
    reader: WholeReader | StreamRelay | PassthroughRelay,
) -> Attempt:
    """Take the lease and send; from here on the exchange waits for the attempt's End."""
    gateway, runtime = exchange.gateway, exchange.runtime
    host, timeouts = target.host, target.timeouts
    dialect = BACKEND_DIALECTS[host.settings.kind]
    path, body = dialect.encode(wanted, target.model, alias.settings)
    pool = runtime.pools[host.name]
    now_s = gateway.clock.now_s()
    lease = Lease(target, turn=runtime.fleet.next_turn(), now_s=now_s)
    attempt = Attempt(exchange, lease, pool, dialect, pool.request(path, body), reader)
    exchange.ongoing = attempt
    exchange.record.backend = host.name
    exchange.record.attempts += 1
    wait_s = timeouts.response_s if isinstance(reader, WholeReader) else timeouts.first_token_s
    if host.settings.kind == "ollama" and target.model not in host.resident:
        wait_s += timeouts.load_s
    attempt.start(now_s, wait_s)
    return attempt


def _encoder(exchange: Exchange, wanted: CanonicalRequest, alias: Alias) -> AnswerEncoder:
    created = int(exchange.record.started_unix_s)
    if isinstance(wanted, Chat):
        return ChatAnswer(exchange.id, created, alias.name, include_usage=wanted.include_usage)
    assert isinstance(wanted, Completion)
    return CompletionAnswer(
        exchange.id,
        created,
        alias.name,
        include_usage=wanted.include_usage,
        echo=wanted.prompt if wanted.echo else "",
    )


def _count(exchange: Exchange, usage: Usage | None) -> None:
    if usage is not None:
        record = exchange.record
        record.prompt_tokens += usage.prompt_tokens
        record.completion_tokens += usage.completion_tokens
        record.cached_tokens += usage.cached_tokens


def _error(attempt: Attempt, end: End) -> GatewayError:
    """Return what tells the client of a failed attempt, should nobody else answer."""
    rule, failure = RULES[end], attempt.failure
    if rule.error is NoBackend:
        return NoBackend(rule.message, retry_after_s=BUSY_RETRY_AFTER_S)
    if failure is None or rule.error is UnknownModel:
        return rule.error(rule.message, param="model" if rule.error is UnknownModel else None)
    return rule.error(f"{rule.message}: {failure.message}", param=failure.param, code=failure.code)
