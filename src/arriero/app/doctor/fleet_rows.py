"""Rows about the hosts behind the gateway: away, slow, without the model, not alike, open."""

import math
from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from arriero.app.doctor.diagnosis import Diagnosis, good, problem, unknown, warning
from arriero.app.doctor.facts import Backend, Facts
from arriero.app.exposition import Readings, buckets, quantile_bound
from arriero.wire.status_page import StatusPage

AWAY = "5xx on one backend"
SLOW = "high p95 latency"
MISSING = "model not found"
DRIFT = "hosts not alike"
OPEN = "11434 open"
AVAILABLE = "available"
RTT_SLOW_S = 0.25
SHARE = 0.95
NEAR_MAX = 3
LATEST = ":latest"


def backends(facts: Facts) -> Iterator[Diagnosis]:
    """Tell which host fails, by the gateway's word and by asking it directly."""
    page = facts.gateway.page if facts.gateway else None
    for host in facts.backends:
        if host.error:
            yield problem(
                AWAY,
                f"{host.url}: {host.error}",
                cause="the host or its Ollama is down, or a firewall stands between",
                evidence=_gateways_word(page),
                fix="systemctl status ollama there; arriero goes on with the others meanwhile, "
                "LiteLLM goes on asking a dead one",
            )
    answering = [host for host in facts.backends if not host.error]
    if page is not None:
        yield from _ejected(facts, page, answering)
    elif answering and len(answering) == len(facts.backends):
        yield good(AWAY, f"{len(answering)} of {len(facts.backends)} answer")
    elif not facts.backends and speaks(facts):
        yield unknown(AWAY, "this gateway tells no backends", "--backend http://HOST:11434")


def speaks(facts: Facts) -> bool:
    """Return whether the gateway answers; when it does not, one row about that is enough."""
    return facts.gateway is not None and not facts.gateway.alive.error


def _gateways_word(page: StatusPage | None) -> list[str]:
    return [f"the gateway calls {b.name} {b.state}" for b in page.backends] if page else []


def _ejected(facts: Facts, page: StatusPage, answering: list[Backend]) -> Iterator[Diagnosis]:
    away = [backend for backend in page.backends if backend.state != AVAILABLE]
    readings = facts.gateway.readings if facts.gateway else None
    due = {t.backend for model in page.models for t in model.targets if t.available}
    for backend in away:
        reasons = failures(readings, backend.name)
        if backend.name in due:
            yield _on_trial(backend.name, reasons)
            continue
        green = "its lists answer all the same, so it is wedged rather than down"
        yield problem(
            AWAY,
            f"{backend.name} is {backend.state}",
            cause=green if len(answering) == len(facts.backends) and answering else "it fails",
            evidence=[f"failures: {', '.join(reasons)}"] if reasons else [],
            fix="on that host: journalctl -u ollama -n 100, ollama ps, restart it; it comes back "
            "by itself within a probe",
        )
    if not away and not any(host.error for host in facts.backends):
        yield good(AWAY, f"{len(page.backends)} of {len(page.backends)} available")


def _on_trial(name: str, reasons: list[str]) -> Diagnosis:
    """Tell of a host whose ejection is over; with little to do nobody's request may go there."""
    return warning(
        AWAY,
        f"{name} was ejected, and is about to be tried again",
        cause="it failed; no request has gone there since its time was over",
        evidence=[f"failures: {', '.join(reasons)}"] if reasons else [],
        fix="nothing: the next request there decides; arriero smoke sends some",
    )


def failures(readings: Readings | None, backend: str) -> list[str]:
    """Return how often a backend failed, by reason, the most frequent first."""
    if readings is None:
        return []
    counts: dict[str, float] = {}
    for (name, own), value in readings.samples.items():
        labels = dict(own)
        if name == "arriero_backend_failures_total" and labels.get("backend") == backend and value:
            counts[labels["reason"]] = value
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return [f"{reason} {count:.0f}" for reason, count in ordered]


def latency(facts: Facts) -> Iterator[Diagnosis]:
    """Tell whether people wait long, and for what."""
    readings = facts.gateway.readings if facts.gateway else None
    far = [host for host in facts.backends if host.rtts_s and median(host.rtts_s) > RTT_SLOW_S]
    for host in far:
        yield warning(
            SLOW,
            f"{host.url} takes {median(host.rtts_s):.2f} s to tell its version",
            cause="the host is busy to the last core, or the way to it is slow",
            evidence=[f"{rtt_s:.3f} s" for rtt_s in host.rtts_s],
            fix="ping it, and look at its load; move heavy models elsewhere",
        )
    if readings is None or not readings.total("arriero_build_info"):
        if not far and speaks(facts):
            yield unknown(SLOW, "this gateway has no counters that we know")
        return
    bound_s = quantile_bound(buckets(readings, "arriero_time_to_first_token_seconds"), SHARE)
    if bound_s is None:
        yield unknown(SLOW, "no request has had a first token yet")
    elif bound_s <= facts.latency_max_s:
        if not far:
            yield good(SLOW, f"95 % of first tokens within {bound_s:g} s")
    else:
        yield _slow(facts, readings, bound_s)


def _slow(facts: Facts, readings: Readings, bound_s: float) -> Diagnosis:
    shown = "beyond the last bucket" if math.isinf(bound_s) else f"up to {bound_s:g} s"
    on_cpu = computed_by_cpu(readings)
    page = facts.gateway.page if facts.gateway else None
    busy = (
        [f"{b.name}: {b.in_flight} in flight" for b in page.backends if b.in_flight] if page else []
    )
    waiting = loads_awaited(page)
    if on_cpu:
        cause, fix = (
            "a model does not fit into its GPU, so the CPU computes a part of it",
            "move the model to a host with more memory, or take a smaller context or quantisation",
        )
    elif page is not None and len(busy) == len(page.backends) > 0:
        cause, fix = (
            "every host is busy: requests wait for a slot",
            "fewer requests at once, OLLAMA_NUM_PARALLEL, or another host for the heavy models",
        )
    elif waiting:
        cause, fix = (
            "models are not in memory, and loading one takes long",
            "keep_alive: -1 for what is used daily; fewer models on one host",
        )
    else:
        cause, fix = (
            "requests waited for a slot or a load since the gateway started; now it is calm",
            "watch arriero_time_to_first_token_seconds and arriero_backend_in_flight over time",
        )
    evidence = [f"slowest 5 % of first tokens: {shown}", *busy, *on_cpu, *waiting]
    return problem(
        SLOW, "people wait long for the first token", cause=cause, evidence=evidence, fix=fix
    )


def median(values: tuple[float, ...]) -> float:
    """Return the middle one, of two the smaller."""
    return sorted(values)[(len(values) - 1) // 2]


def computed_by_cpu(readings: Readings) -> list[str]:
    """Return the models that are not wholly in a GPU's memory, where there is a GPU at all."""
    sizes: dict[tuple[str, str], dict[str, float]] = {}
    for (name, own), value in readings.samples.items():
        if name == "arriero_model_memory_bytes":
            labels = dict(own)
            key = (labels["backend"], labels["model"])
            sizes.setdefault(key, {})[labels["kind"]] = value
    return [
        f"{model} on {backend}: {size['vram'] / size['total']:.0%} in the GPU"
        for (backend, model), size in sorted(sizes.items())
        if 0 < size.get("vram", 0.0) < size.get("total", 0.0)
    ]


def loads_awaited(page: StatusPage | None) -> list[str]:
    """Return the aliases whose model is in no host's memory."""
    if page is None:
        return []
    loaded = {backend.name: backend.loaded for backend in page.backends}
    return [
        f"{model.name} is in no host's memory"
        for model in page.models
        if model.targets and not any(t.model in loaded.get(t.backend, ()) for t in model.targets)
    ]


def missing(facts: Facts) -> Iterator[Diagnosis]:
    """Tell which routed models are not on their host, with the names that come near."""
    found = list(_missing(facts))
    yield from found
    if not found and _routes_known(facts):
        yield good(MISSING, "every routed model is on its host")


def _routes_known(facts: Facts) -> bool:
    page = facts.gateway.page if facts.gateway else None
    if page is not None:
        return all(backend.models is not None for backend in page.backends)
    config = facts.host.config if facts.host else None
    return bool(config and config.routes and facts.backends)


def _missing(facts: Facts) -> Iterator[Diagnosis]:
    page = facts.gateway.page if facts.gateway else None
    if page is not None:
        installed = {b.name: b.models for b in page.backends if b.models is not None}
        for model in page.models:
            for target in model.targets:
                yield from _absent(model.name, target.backend, target.model, installed)
        return
    config = facts.host.config if facts.host else None
    tags = {b.url: tuple(b.models) for b in facts.backends if b.models is not None}
    for alias, routes in (config.routes if config else {}).items():
        for url, name in routes:
            yield from _absent(alias, url, name, tags)


def _absent(
    alias: str, backend: str, model: str, installed: Mapping[str, tuple[str, ...]]
) -> Iterator[Diagnosis]:
    if backend not in installed or has(installed[backend], model):
        return
    near = get_close_matches(model, installed[backend], NEAR_MAX, 0.5)
    yield problem(
        MISSING,
        f"{alias}: {backend} has no {model}",
        cause="the alias names another model than the host has"
        if near
        else "the model was never pulled there",
        evidence=[f"near names there: {', '.join(near)}"] if near else [],
        fix=f"on that host: ollama pull {model}"
        + (f"; or name {near[0]} in the configuration, and reload" if near else ""),
    )


def has(installed: tuple[str, ...], model: str) -> bool:
    """Return whether a model is among these, where `:latest` may be left out."""
    return model in installed or f"{model}{LATEST}" in installed


def drift(facts: Facts) -> Iterator[Diagnosis]:
    """Tell where hosts that should be alike are not: versions, and weights of one name."""
    page = facts.gateway.page if facts.gateway else None
    versions = {b.url: b.version for b in facts.backends if b.version}
    if page is not None and not versions:
        versions = {b.name: b.version for b in page.backends if b.version and b.kind == "ollama"}
    if len(set(versions.values())) > 1:
        yield warning(
            DRIFT,
            "hosts run different versions of Ollama",
            cause="one was upgraded and another was not",
            evidence=[f"{host}: {version}" for host, version in sorted(versions.items())],
            fix="apply the playbook backends.yml, which holds one version on all",
        )
    differing = list(digests_apart(facts.backends))
    for name, evidence in differing:
        yield warning(
            DRIFT,
            f"{name} is not the same on all hosts",
            cause="the tag was moved between two pulls, so answers depend on the host",
            evidence=evidence,
            fix=f"ollama pull {name} on each of them",
        )
    if len(versions) > 1 and len(set(versions.values())) == 1 and not differing:
        yield good(DRIFT, f"{len(versions)} hosts with Ollama {next(iter(versions.values()))}")


def digests_apart(hosts: tuple[Backend, ...]) -> Iterator[tuple[str, list[str]]]:
    """Yield the names that stand for different weights, with the digests by host."""
    names = sorted({name for host in hosts for name in host.models or {}})
    for name in names:
        held = {
            host.url: host.models[name] for host in hosts if host.models and name in host.models
        }
        if len(set(held.values())) > 1:
            yield name, [f"{url}: {digest[:12]}" for url, digest in sorted(held.items())]


def open_port(facts: Facts) -> Iterator[Diagnosis]:
    """Tell which hosts answer a host that is not the gateway: whoever reaches them needs no key."""
    gateway = facts.gateway
    if gateway is None or gateway.here or not facts.backends:
        return
    answering = [host.url for host in facts.backends if not host.error]
    if answering:
        yield problem(
            OPEN,
            f"{', '.join(answering)} answer this host, which is not the gateway",
            cause="no firewall keeps others away from Ollama, which asks for no key",
            evidence=[f"GET {url}/api/version: answered" for url in answering],
            fix="apply the playbook backends.yml: nftables let the gateway alone in",
        )
    else:
        yield good(OPEN, "no host answers but to the gateway")
