"""Whether the whole fleet worked: fan-out by two independent measures, and nothing left in flight.

Connections seen at one moment tell little: with `least-busy` and requests that do not overlap, one
backend rightly takes them all. So the requests overlap, and what is compared is counted.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from arriero.app.client import Exchange
from arriero.app.smoke.answers import OK, complaint
from arriero.app.smoke.finding import Finding, failed, passed, unknown, unmeasured
from arriero.wire.status_page import StatusPage, TargetStatus

# A model that is never unloaded expires as far off as a duration of Go's can reach, 292 years.
_YEAR_OF_NEVER = 2200

AVAILABLE = "available"
NOT_ARRIERO = "this gateway does not tell what its backends do"


class Resident(msgspec.Struct):
    """One model in memory, as Ollama's `/api/ps` lists it (docs/api.md, "List Running Models")."""

    name: str
    expires_at: str


class Residency(msgspec.Struct):
    """An answer of `/api/ps`."""

    models: list[Resident]


def status_page(exchange: Exchange) -> StatusPage | None:
    """Return the gateway's status page; None when this is not arriero."""
    if exchange.status != OK:
        return None
    try:
        return msgspec.json.decode(exchange.body, type=StatusPage)
    except msgspec.DecodeError:
        return None


def targets(page: StatusPage, alias: str) -> list[TargetStatus]:
    """Return all that an alias can be routed to."""
    return [target for model in page.models if model.name == alias for target in model.targets]


def available(page: StatusPage, alias: str) -> list[TargetStatus]:
    """Return the targets of an alias that would be asked now."""
    return [target for target in targets(page, alias) if target.available]


def cold(page: StatusPage, alias: str) -> set[str]:
    """Return the Ollama backends that do not have the alias's model in memory."""
    loaded = {b.name: set(b.loaded) for b in page.backends if b.kind == "ollama"}
    return {
        t.backend for t in targets(page, alias) if t.model not in loaded.get(t.backend, {t.model})
    }


def states(step: str, page: StatusPage | None) -> Finding:
    """Judge the backends' states: an acceptance with a host away accepts another fleet."""
    if page is None:
        return unmeasured(step, NOT_ARRIERO)
    away = [f"{b.name} {b.state}" for b in page.backends if b.state != AVAILABLE]
    if away:
        return failed(step, ", ".join(away), "is it running, and reachable from the gateway?")
    return passed(step, f"{len(page.backends)} available")


def answered(step: str, exchanges: Sequence[Exchange]) -> Finding:
    """Judge the overlapping requests themselves: every one answered."""
    wrong = [text for exchange in exchanges if (text := complaint(exchange, OK))]
    if wrong:
        return failed(step, f"{len(wrong)} of {len(exchanges)} failed: {wrong[0]}")
    slowest_s = max(exchange.took_s for exchange in exchanges)
    return passed(step, f"{len(exchanges)} of {len(exchanges)} answered, slowest {slowest_s:.2f} s")


def fan_out(step: str, before: StatusPage | None, after: StatusPage | None, alias: str) -> Finding:
    """Judge by the gateway's counters: every available backend of the alias got its share."""
    if before is None or after is None:
        return unmeasured(step, NOT_ARRIERO)
    if after.uptime_s < before.uptime_s:
        return unknown(step, "the gateway was started anew meanwhile", "run it again")
    served = {backend.name: backend.served for backend in before.backends}
    gained = {b.name: b.served - served.get(b.name, 0) for b in after.backends}
    wanted = sorted({target.backend for target in available(before, alias)})
    share = ", ".join(f"{name} {gained.get(name, 0)}" for name in wanted)
    idle = [name for name in wanted if gained.get(name, 0) < 1]
    if not wanted:
        return failed(step, f"no backend of {alias} is available", "arriero status tells why")
    if idle and set(idle) <= cold(after, alias):
        return unknown(
            step,
            f"{', '.join(idle)} has not loaded the model, and the others did it all ({share})",
            "requests may rightly wait for a host that is warm: load it there, and run it again",
        )
    if idle:
        return failed(
            step,
            f"nothing went to {', '.join(idle)} ({share})",
            "arriero status tells its state; is the model installed on it?",
        )
    others = sorted({t.backend for t in targets(before, alias)} - set(wanted))
    rest = f"; without the model or away: {', '.join(others)}" if others else ""
    return passed(step, share + rest)


def resident(step: str, url: str, before: Exchange, after: Exchange) -> Finding:
    """Judge by the backend itself: serving a request moves a model's `expires_at` forward."""
    error = before.error or after.error
    if error:
        return unknown(step, f"{url}: {error}", "is this address right from here?")
    old, new = _expiries(before), _expiries(after)
    if old is None or new is None:
        return unmeasured(step, f"{url} is no Ollama")
    moved = sorted(name for name, moment in new.items() if name not in old or moment > old[name])
    if moved:
        return passed(step, f"{url} served {', '.join(moved)}")
    if not new or any(moment.year >= _YEAR_OF_NEVER for moment in new.values()):
        return unmeasured(step, f"{url} unloads at once or never, so it cannot tell")
    return failed(
        step, f"{url} served nothing meanwhile", "is it a backend of the alias that was asked for?"
    )


def _expiries(exchange: Exchange) -> Mapping[str, datetime] | None:
    if exchange.status != OK:
        return None
    try:
        models = msgspec.json.decode(exchange.body, type=Residency).models
        return {model.name: _moment(model.expires_at) for model in models}
    except (msgspec.DecodeError, ValueError):
        return None


def _moment(text: str) -> datetime:
    """Read Go's RFC 3339, whose nanoseconds Python cuts to microseconds."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def idle(step: str, before: StatusPage | None, after: StatusPage | None) -> Finding:
    """Judge that every lease was given back, unless others keep the gateway busy."""
    if before is None or after is None:
        return unmeasured(step, NOT_ARRIERO)
    busy = {b.name: b.in_flight for b in after.backends if b.in_flight}
    if not busy:
        return passed(step, f"0 on {len(after.backends)} backends")
    if any(backend.in_flight for backend in before.backends):
        return unmeasured(step, "others are using the gateway")
    left = ", ".join(f"{name} {count}" for name, count in busy.items())
    return failed(step, f"still counted: {left}", "others at work? run it again when it is quiet")
