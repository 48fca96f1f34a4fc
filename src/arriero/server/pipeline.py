"""The life of a request, top to bottom: the one place that holds its ifs.

    head+body -> authenticate -> decode -> resolve alias -> route -> attempt -> relay -> settle
                                                           ^------ another backend -----'

Errors are raised and answered by the exchange, which also settles. Nothing is asked again once a
byte of an answer has reached the client.
"""

import msgspec

from arriero.base.errors import GatewayError, NoBackend, UnknownModel
from arriero.core.access import authenticate
from arriero.core.attempts import BUSY_RETRY_AFTER_S, RULES, End, Next, more_telling
from arriero.core.capabilities import adapt
from arriero.core.catalog import retry_after_s
from arriero.core.fleet import Alias, Target, take_lease
from arriero.core.routing import STRATEGIES, last_resorts, open_mask, target_on, usable_mask
from arriero.server.attempt import Attempt, Reader
from arriero.server.exchange import Exchange
from arriero.server.gateway import Runtime
from arriero.server.operations import Operation
from arriero.server.relay import PassthroughRelay, StreamRelay, WholeReader
from arriero.server.routes import Route, View, find_route, no_route
from arriero.server.views import show, unknown_alias
from arriero.wire.canonical import CanonicalRequest, Chat, Usage
from arriero.wire.dialect import AnswerEncoder, BackendDialect
from arriero.wire.http import check_head
from arriero.wire.ollama import OLLAMA
from arriero.wire.openai_backend import OPENAI
from arriero.wire.openai_passthrough import Passthrough

BACKEND_DIALECTS: dict[str, BackendDialect] = {"ollama": OLLAMA, "openai": OPENAI}


class Admission(msgspec.Struct, frozen=True, eq=False):
    """What a head alone decides: where its request goes, and in whose name."""

    runtime: Runtime
    route: Route
    path: str
    principal: str


async def serve(exchange: Exchange) -> None:
    """Answer one request."""
    record, seen = exchange.record, exchange.request.seen
    admission = seen.admitted if seen is not None else None
    if not isinstance(admission, Admission) or admission.runtime is not exchange.runtime:
        admission = _admit(exchange)
        if seen is not None:
            seen.admitted = admission
    route = admission.route
    record.path = admission.path
    record.principal = admission.principal
    record.operation = route.name
    body = exchange.body_at_hand() or await exchange.body()
    operation = route.operation
    if operation is None:
        show(exchange, route)
        return
    wanted = operation.decode(body)
    alias = exchange.runtime.fleet.aliases.get(wanted.model)
    if alias is None:
        raise unknown_alias(exchange.runtime.fleet, wanted.model)
    record.alias = alias.name
    exchange.deadline_s = exchange.started_s + alias.total_s
    if adapt(wanted, alias):
        exchange.gateway.counters.tools_dropped(alias.name)
    if wanted.ignored:
        exchange.tell_ignored(wanted.ignored)
    if operation.encoder is not None and wanted.stream:
        record.stream = True
        await _serve_stream(exchange, operation, wanted, alias)
    else:
        await _serve_whole(exchange, operation, wanted, alias)


def _admit(exchange: Exchange) -> Admission:
    """Check the head and the key. Raises ClientError."""
    request, runtime = exchange.request, exchange.runtime
    check_head(request.version, request.headers, request.repeated)
    route, path = find_route(request)
    exchange.record.path = path
    principal = ""
    if route is None or not (route.view and _is_public(exchange, route)):
        # Without a key not even the absence of a path is told.
        principal = authenticate(request.headers, runtime.master_key)
        exchange.record.principal = principal
    if route is None or request.method not in route.methods:
        raise no_route(route, path, request.method)
    return Admission(runtime, route, path, principal)


def _is_public(exchange: Exchange, route: Route) -> bool:
    return route.public or (
        route.view is View.METRICS and exchange.runtime.config.access.metrics_public
    )


# -- one backend after the other, until one answers or nobody is left to ask


async def _serve_whole(
    exchange: Exchange, operation: Operation, wanted: CanonicalRequest, alias: Alias
) -> None:
    """Reply with a whole answer."""
    tries = Tries(exchange, alias)
    while True:
        target = tries.next()
        reader = WholeReader(exchange, operation, wanted, BACKEND_DIALECTS[target.host.kind])
        attempt = _start(exchange, wanted, alias, target, reader, target.timeouts.response_s)
        end = await exchange
        exchange.ongoing = None
        if end is End.ANSWERED:
            _count(exchange, reader.usage)
            exchange.reply(200, reader.written, extra=exchange.extra_head)
            return
        tries.failed(attempt, end)


async def _serve_stream(
    exchange: Exchange, operation: Operation, wanted: CanonicalRequest, alias: Alias
) -> None:
    """Relay a stream; the exchange speaks for us when it breaks."""
    assert operation.encoder is not None
    tries = Tries(exchange, alias)
    while True:
        target = tries.next()
        encoder = exchange.encoder = operation.encoder(wanted, exchange)
        relay = _relay(exchange, wanted, target, encoder)
        attempt = _start(exchange, wanted, alias, target, relay, target.timeouts.first_token_s)
        end = await exchange
        exchange.ongoing = None
        _count(exchange, relay.usage)
        if end is End.ANSWERED:
            exchange.end_stream(encoder.end() if isinstance(relay, StreamRelay) else b"")
            return
        tries.failed(attempt, end)


class Tries(msgspec.Struct, eq=False):
    """Whom to ask next, and what to say when nobody is left."""

    _exchange: Exchange
    _alias: Alias
    _tried: int = 0  # mask
    _failures: int = 0  # those that count against the alias's retries
    _last: GatewayError | None = None

    def next(self) -> Target:
        """Return the next target. Raises the last failure, or NoBackend, when there is none."""
        alias, tried, fleet = self._alias, self._tried, self._exchange.runtime.fleet
        roster = fleet.roster
        # The first decision is a few microseconds after the start: that clock reading will do.
        now_s = self._exchange.gateway.clock.now_s() if tried else self._exchange.started_s
        mask = open_mask(alias, roster, now_s) & ~tried
        if not mask:
            mask = self._otherwise(now_s)
        if mask & (mask - 1):
            target = STRATEGIES[alias.strategy](alias, mask, roster, fleet.turn)
        else:
            target = target_on(alias, mask)
        self._tried = tried | target.station.host.bit
        return target

    def _otherwise(self, now_s: float) -> int:
        """Return whom to ask when no host is open. Raises if there is nobody."""
        roster = self._exchange.runtime.fleet.roster
        if usable_mask(self._alias, roster, now_s) & ~self._tried:
            raise NoBackend(RULES[End.BUSY].message, retry_after_s=BUSY_RETRY_AFTER_S)
        mask = last_resorts(self._alias, roster) & ~self._tried
        if not mask:
            raise self._last or _nobody(self._exchange, self._alias)
        return mask

    def failed(self, attempt: Attempt, end: object) -> None:
        """Note a failed attempt. Raises its error unless somebody else may be asked."""
        assert isinstance(end, End)
        step = RULES[end].next
        error = _error(attempt, end)
        self._last = more_telling(self._last, error)
        if step is Next.RETRY:
            self._failures += 1
        if step is Next.STOP or self._exchange.record.first_token_s >= 0:
            raise error
        if self._failures > self._alias.retries:
            raise self._last


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
    alias: Alias,
    target: Target,
    reader: Reader,
    wait_s: float,
) -> Attempt:
    """Take the lease and send; from here on the exchange waits for the attempt's End."""
    runtime, record, host = exchange.runtime, exchange.record, target.host
    dialect = BACKEND_DIALECTS[host.kind]
    path, body = dialect.encode(wanted, target.model, alias.settings)
    pool = runtime.pools[host.name]
    now_s = exchange.gateway.clock.now_s()
    lease = take_lease(target, runtime.fleet.next_turn(), now_s)
    attempt = Attempt(exchange, lease, pool, dialect, pool.request(path, body), reader)
    exchange.ongoing = attempt
    record.backend = host.name
    record.attempts += 1
    if host.kind == "ollama" and not target.station.resident:
        wait_s += target.timeouts.load_s
    attempt.start(now_s + wait_s)
    return attempt


def _count(exchange: Exchange, usage: Usage | None) -> None:
    if usage is not None:
        record = exchange.record
        record.prompt_tokens = usage.prompt_tokens
        record.completion_tokens = usage.completion_tokens
        record.cached_tokens = usage.cached_tokens


def _error(attempt: Attempt, end: End) -> GatewayError:
    """Return what tells the client of a failed attempt, should nobody else answer."""
    rule, failure = RULES[end], attempt.failure
    if rule.error is NoBackend:
        return NoBackend(rule.message, retry_after_s=BUSY_RETRY_AFTER_S)
    if failure is None or rule.error is UnknownModel:
        return rule.error(rule.message, param="model" if rule.error is UnknownModel else None)
    return rule.error(f"{rule.message}: {failure.message}", param=failure.param, code=failure.code)
