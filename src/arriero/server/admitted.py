"""What a head alone decides, and is decided once for all requests of a connection that have it."""

import msgspec

from arriero.core.access import authenticate, authorise
from arriero.core.keys import Key
from arriero.core.meter import Meter
from arriero.core.principal import Caller, identify
from arriero.server.exchange import Exchange
from arriero.server.gateway import Runtime
from arriero.server.routes import Route, View, find_route, no_route
from arriero.wire.http import check_head

NOBODY = Caller("")  # who asks for what everybody may see
NO_KEY = Key(id="", digest=b"")


class Admission(msgspec.Struct, eq=False):
    """Where a request goes, and in whose name.

    `meter` is that of a key whose requests to models without limits may be taken from its tab.
    """

    runtime: Runtime
    epoch: object  # of the keys
    route: Route
    path: str
    key: Key
    caller: Caller
    limited: bool  # the key, or the key with some models
    meter: Meter | None


def admission_of(exchange: Exchange) -> Admission:
    """Return what the head decides, known already if it came before. Raises ClientError."""
    seen = exchange.request.seen
    if seen is None:
        return _admit(exchange)
    admission = seen.admitted
    if not isinstance(admission, Admission) or not _holds(admission, exchange):
        admission = seen.admitted = _admit(exchange)
    return admission


def _holds(admission: Admission, exchange: Exchange) -> bool:
    """Say whether what was decided about a head is still so: same settings, same keys."""
    if admission.runtime is not exchange.runtime:
        return False
    return admission.epoch is exchange.gateway.ring.epoch


def _admit(exchange: Exchange) -> Admission:
    """Check the head and the key. Raises ClientError."""
    request, runtime, gateway = exchange.request, exchange.runtime, exchange.gateway
    check_head(request.version, request.headers, request.repeated)
    route, path = find_route(request)
    exchange.record.path = path
    caller, key = NOBODY, NO_KEY
    if route is None or not (route.view and _is_public(exchange, route)):
        # Without a key not even the absence of a path is told.
        key = authenticate(request.headers, runtime.padded_master, runtime.master, gateway.ring)
        exchange.record.principal = key.id
        caller = identify(request.headers, key, runtime.user_header)
    if route is None or request.method not in route.methods:
        raise no_route(route, path, request.method)
    if key is not NO_KEY:
        authorise(key, route.operation_name, inner=route.inner)
    limited, meter = bool(key.limits or key.per_model), gateway.limiter.own_meter(key)
    return Admission(runtime, gateway.ring.epoch, route, path, key, caller, limited, meter)


def _is_public(exchange: Exchange, route: Route) -> bool:
    return route.public or (
        route.view is View.METRICS and exchange.runtime.config.access.metrics_public
    )
