"""What the gateway tells about itself: models, health, metrics, status."""

import msgspec

from arriero import __version__
from arriero.base.errors import UnknownModel
from arriero.core.access import check_model
from arriero.core.capabilities import only_embeds
from arriero.core.catalog import is_ready, suggest
from arriero.core.fleet import Alias, Fleet, Target
from arriero.core.keys import Key
from arriero.core.principal import Priority
from arriero.core.roster import Host
from arriero.server.exchange import JSON, Exchange
from arriero.server.gateway import Gateway, Runtime
from arriero.server.routes import Route, View
from arriero.telemetry.metrics import CONTENT_TYPE
from arriero.wire.openai_answer import encode_model, encode_models
from arriero.wire.status_page import (
    BackendStatus,
    ModelStatus,
    QueueStatus,
    StatusPage,
    TargetStatus,
)

NOT_READY = 503


def show(exchange: Exchange, route: Route, key: Key) -> None:
    """Answer a view for `key`. Raises UnknownModel, Forbidden."""
    runtime, gateway = exchange.runtime, exchange.gateway
    match route.view:
        case View.MODELS:
            exchange.reply(200, _models(runtime, key))
        case View.MODEL:
            check_model(key, route.argument)
            exchange.reply(200, _model(runtime, route.argument))
        case View.LIVELINESS:
            exchange.reply(200, b'{"status":"alive"}')
        case View.READINESS:
            ready = is_ready(runtime.fleet, gateway.clock.now_s()) and not gateway.draining
            exchange.reply(200 if ready else NOT_READY, _readiness(gateway, ready=ready))
        case View.METRICS:
            exchange.reply(200, gateway.metrics.render(), CONTENT_TYPE.encode())
        case _:
            exchange.reply(200, _status(exchange), JSON)


def _readiness(gateway: Gateway, *, ready: bool) -> bytes:
    """Return the state, and what is missing.

    A gateway without its store is ready: it serves everybody it knows. Were it not, a load balancer
    would turn the loss of a database into the loss of all gateways at once.
    """
    told = {"status": "ready" if ready else "not ready"}
    outside = gateway.counters.outside()
    if outside.store_up is False:
        told["store"] = "unavailable"
    if outside.peers_up is False:
        told["peers"] = "unavailable"
    return msgspec.json.encode(told)


def _models(runtime: Runtime, key: Key) -> bytes:
    if not key.models:
        return runtime.models_body
    allowed = [alias for alias in runtime.fleet.aliases if key.may_use(alias)]
    return encode_models(allowed, runtime.created_unix_s)


def _model(runtime: Runtime, name: str) -> bytes:
    if name not in runtime.fleet.aliases:
        raise unknown_alias(runtime.fleet, name)
    return encode_model(name, runtime.created_unix_s)


def unknown_alias(fleet: Fleet, name: str) -> UnknownModel:
    """Return the error for a model that is no alias, with the nearest one as a hint."""
    near = suggest(fleet, name)
    hint = f"did you mean `{near}`? " if near else ""
    return UnknownModel(
        f"the model `{name[:200]}` does not exist",
        param="model",
        hint=f"{hint}GET /v1/models lists all",
    )


def _status(exchange: Exchange) -> bytes:
    """Return the fleet as `arriero status` shows it; addresses stay inside."""
    runtime, gateway = exchange.runtime, exchange.gateway
    now_s = gateway.clock.now_s()
    page = StatusPage(
        version=__version__,
        config_digest=runtime.config.digest,
        uptime_s=round(now_s - gateway.started_s, 3),
        ready=is_ready(runtime.fleet, now_s),
        connections=len(gateway.connections),
        leftovers=len(gateway.leftovers),
        queue=QueueStatus(
            **{
                priority.name.lower(): count
                for priority, count in zip(Priority, gateway.queue.depths(), strict=True)
            }
        ),
        backends=tuple(_backend(host) for host in runtime.fleet.hosts.values()),
        models=tuple(_alias(alias, now_s) for alias in runtime.fleet.aliases.values()),
    )
    return msgspec.json.encode(page)


def _backend(host: Host) -> BackendStatus:
    return BackendStatus(
        name=host.name,
        kind=host.kind,
        state=host.breaker.state.name.lower(),
        in_flight=host.in_flight,
        served=host.served,
        version=host.version or None,
        models=tuple(sorted(host.installed)) if host.installed is not None else None,
        loaded=tuple(sorted(host.resident)),
    )


def _alias(alias: Alias, now_s: float) -> ModelStatus:
    return ModelStatus(
        name=alias.name,
        mode="embedding" if only_embeds(alias) else None,
        targets=tuple(
            TargetStatus(
                backend=target.host.name,
                model=target.model,
                available=_is_available(target, now_s),
                state=target.station.residency.name.lower(),
            )
            for target in alias.targets
        ),
    )


def _is_available(target: Target, now_s: float) -> bool:
    """Say whether a request may go there now, if a slot is free."""
    station, host = target.station, target.host
    return station.group.usable & host.bit != 0 and host.breaker.may_try(now_s)
