"""Watching a canary: its chats and the gateway's own counters against thresholds.

Two views, because each is blind somewhere: a chat through Open WebUI goes the users' whole way, but
there are few of them; the gateway counts everybody's requests, but not those that never reach it.
"""

import math
from collections.abc import Sequence

import msgspec

from arriero.app.client import Exchange
from arriero.app.exposition import Readings, buckets, percentile, quantile_bound
from arriero.app.smoke.finding import Finding, failed, passed, unknown, unmeasured
from arriero.app.webui.api import OK, said

REQUESTS = "arriero_requests_total"
FIRST_TOKEN = "arriero_time_to_first_token_seconds"  # noqa: S105 - a metric's name
SHARE = 0.95
HINT_SLOW = "arriero doctor tells what is slow; arriero webui rollback goes back"
HINT_ERRORS = "arriero doctor tells what fails; arriero webui rollback goes back"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a canary may do: seconds at the 95th percentile, and the share of errors."""

    latency_max_s: float
    errors_max: float


class Chat(msgspec.Struct, frozen=True):
    """One chat through Open WebUI: how long it took, and what was wrong with it."""

    took_s: float
    wrong: str | None = None


class Completion(msgspec.Struct, frozen=True):
    """As much of a chat completion as shows that there is an answer."""

    choices: tuple[dict[str, object], ...]


def chat(exchange: Exchange) -> Chat:
    """Judge one chat."""
    if exchange.status != OK:
        return Chat(exchange.took_s, said(exchange))
    try:
        answer = msgspec.json.decode(exchange.body, type=Completion)
    except msgspec.DecodeError as wrong:
        return Chat(exchange.took_s, f"no chat completion: {wrong}")
    return Chat(exchange.took_s, None if answer.choices else "an answer without a choice")


def chats(done: Sequence[Chat], limits: Limits) -> list[Finding]:
    """Judge the chats through Open WebUI."""
    step = "chats through Open WebUI"
    if not done:
        return [unknown(step, "none was done", "give --watch more time")]
    wrong = [one.wrong for one in done if one.wrong]
    found = [_errors(step, len(wrong), len(done), limits, f": {wrong[0]}" if wrong else "")]
    good = [one.took_s for one in done if not one.wrong]
    if good:
        p95_s = percentile(good, SHARE)
        detail = f"95 % of {len(good)} within {p95_s:.2f} s"
        found.append(_slow("time of a chat", p95_s, limits, detail))
    return found


def gateway(before: Readings | None, after: Readings | None, limits: Limits) -> list[Finding]:
    """Judge by the gateway's counters over the time of the watch, everybody's requests counted."""
    step = "requests at the gateway"
    if before is None or after is None or not after.total("arriero_build_info"):
        return [unmeasured(step, "this gateway has no counters that we know")]
    gained = after.since(before)
    count = gained.total(REQUESTS)
    if count <= 0:
        return [unknown(step, "the gateway saw no request", "does Open WebUI use this gateway?")]
    bad = sum(gained.total(REQUESTS, outcome=o) for o in ("backend_error", "gateway_error"))
    found = [_errors(step, round(bad), round(count), limits, "")]
    bound_s = quantile_bound(buckets(gained, FIRST_TOKEN), SHARE)
    if bound_s is not None:
        shown = "more than the last bucket" if math.isinf(bound_s) else f"{bound_s:g} s"
        detail = f"95 % of first tokens within {shown}"
        found.append(_slow("time to first token", bound_s, limits, detail))
    return found


def _errors(step: str, bad: int, count: int, limits: Limits, why: str) -> Finding:
    detail = f"{bad} of {count} failed{why}"
    if bad > limits.errors_max * count:
        return failed(step, f"{detail} (at most {limits.errors_max:.1%})", HINT_ERRORS)
    return passed(step, detail)


def _slow(step: str, p95_s: float, limits: Limits, detail: str) -> Finding:
    if p95_s > limits.latency_max_s:
        return failed(step, f"{detail} (at most {limits.latency_max_s:g} s)", HINT_SLOW)
    return passed(step, detail)
