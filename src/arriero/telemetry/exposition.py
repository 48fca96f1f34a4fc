"""The page at `/metrics`: counters and the fleet's present state as Prometheus families.

Every family here is described in docs/metrics.md; a test holds that.
"""

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from arriero import __version__
from arriero.core.fleet import Fleet, Target
from arriero.core.health import AVAILABLE
from arriero.core.principal import Priority
from arriero.telemetry.counters import Counters, Outside, Table
from arriero.telemetry.histogram import Histogram


def page(counters: Counters, lines_dropped: int, queued: Sequence[int] = ()) -> bytes:
    """Return all families as text, with the standard ones of this process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(families(counters, lines_dropped, queued)))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


def families(
    counters: Counters, lines_dropped: int, queued: Sequence[int] = ()
) -> Iterator[Metric]:
    """Yield every family of ours."""
    fleet = counters.fleet_view()
    yield from _requests(counters)
    yield from _aliases(counters)
    yield from _queue(counters, queued)
    yield from _tables(counters)
    yield from _hosts(fleet)
    yield from _models(fleet)
    yield from _gateway(counters, lines_dropped)
    yield from _outside(counters.outside())


class _Snapshot(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _requests(counters: Counters) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "arriero_requests",
        "Requests settled.",
        labels=("alias", "operation", "status", "outcome"),
    )
    for (alias, operation, status, outcome), series in counters.requests.items():
        requests.add_metric((alias, operation, str(status), outcome), series.count)
    yield requests

    durations = HistogramMetricFamily(
        "arriero_request_duration_seconds",
        "From a request's first byte to the end of its answer.",
        labels=("alias", "operation"),
    )
    for labels, histogram in counters.durations.items():
        _add_histogram(durations, labels, histogram)
    yield durations


def _aliases(counters: Counters) -> Iterator[Metric]:
    first_token = HistogramMetricFamily(
        "arriero_time_to_first_token_seconds",
        "From a request's first byte to the first token sent to its client.",
        labels=("alias",),
    )
    tokens = CounterMetricFamily(
        "arriero_tokens", "Tokens as counted by the backends.", labels=("alias", "kind")
    )
    retries = CounterMetricFamily(
        "arriero_retries", "Attempts after a request's first.", labels=("alias",)
    )
    failovers = CounterMetricFamily(
        "arriero_failovers",
        "Requests answered well after another backend had failed them.",
        labels=("alias",),
    )
    tools_dropped = CounterMetricFamily(
        "arriero_tools_dropped",
        "Requests whose tools were dropped because the model has no use for them.",
        labels=("alias",),
    )
    for alias, counts in counters.aliases.items():
        _add_histogram(first_token, (alias,), counts.first_token)
        tokens.add_metric((alias, "prompt"), counts.prompt_tokens)
        tokens.add_metric((alias, "cached"), counts.cached_tokens)
        tokens.add_metric((alias, "completion"), counts.completion_tokens)
        retries.add_metric((alias,), counts.retries)
        failovers.add_metric((alias,), counts.failovers)
        tools_dropped.add_metric((alias,), counts.tools_dropped)
    yield from (first_token, tokens, retries, failovers, tools_dropped)


def _queue(counters: Counters, queued: Sequence[int]) -> Iterator[Metric]:
    depth = GaugeMetricFamily(
        "arriero_queue_depth",
        "Requests waiting for a slot, by the class they came with.",
        labels=("priority",),
    )
    for priority, count in zip(Priority, queued, strict=False):
        depth.add_metric((priority.name.lower(),), count)
    yield depth
    wait = HistogramMetricFamily(
        "arriero_queue_wait_seconds",
        "Time in the queue, of the requests that had to wait.",
        labels=("alias",),
    )
    for alias, counts in counters.aliases.items():
        _add_histogram(wait, (alias,), counts.queue_wait)
    yield wait
    yield _table(
        counters.queue_refusals,
        "arriero_queue_refusals",
        "Requests that the queue turned away.",
        ("reason",),
    )
    yield _table(
        counters.limit_refusals,
        "arriero_limit_refusals",
        "Requests over a limit of their key or model.",
        ("code",),
    )
    yield CounterMetricFamily(
        "arriero_batched_requests",
        "Embedding requests answered by a call for another one.",
        value=counters.batched_requests,
    )


def _tables(counters: Counters) -> Iterator[Metric]:
    yield _table(counters.errors, "arriero_errors", "Requests that failed, by code.", ("code",))
    yield _table(
        counters.backend_failures,
        "arriero_backend_failures",
        "Attempts that a backend failed.",
        ("backend", "reason"),
    )
    yield _table(
        counters.ejections,
        "arriero_ejections",
        "Times a backend was left out after failures.",
        ("backend",),
    )
    yield _table(
        counters.model_ejections,
        "arriero_model_ejections",
        "Times one model on a backend was left out after failures.",
        ("backend", "model"),
    )
    yield _table(
        counters.model_loads,
        "arriero_model_loads",
        "Models that the gateway had loaded.",
        ("backend", "model", "result"),
    )
    yield _table(
        counters.probes,
        "arriero_probes",
        "Generations of one token by which the gateway looked after loaded models.",
        ("backend", "result"),
    )
    yield _table(
        counters.resumptions,
        "arriero_resumptions",
        "Streams that broke off in the middle, by what became of them.",
        ("outcome",),
    )
    yield _table(
        counters.reloads,
        "arriero_config_reloads",
        "Attempts to read the configuration again.",
        ("result",),
    )


def _hosts(fleet: Fleet) -> Iterator[Metric]:
    in_flight = GaugeMetricFamily(
        "arriero_backend_in_flight",
        "Requests a backend is working on, over all aliases.",
        labels=("backend",),
    )
    state = GaugeMetricFamily(
        "arriero_backend_state", "0 available, 1 probing, 2 ejected.", labels=("backend",)
    )
    requests = CounterMetricFamily(
        "arriero_backend_requests", "Attempts given to a backend.", labels=("backend",)
    )
    for name, host in fleet.hosts.items():
        in_flight.add_metric((name,), host.in_flight - host.foreign)
        state.add_metric((name,), host.breaker.state)
        requests.add_metric((name,), host.served)
    yield from (in_flight, state, requests)


def _models(fleet: Fleet) -> Iterator[Metric]:
    labels = ("backend", "model")
    installed = GaugeMetricFamily(
        "arriero_model_installed", "1 when a routed model is on the backend's disk.", labels=labels
    )
    resident = GaugeMetricFamily(
        "arriero_model_resident", "1 when a routed model is in the backend's memory.", labels=labels
    )
    state = GaugeMetricFamily(
        "arriero_model_state",
        "0 absent, 1 unknown, 2 installed, 3 being loaded by the gateway, 4 loaded.",
        labels=labels,
    )
    breaker = GaugeMetricFamily(
        "arriero_model_breaker_state",
        "0 available, 1 probing, 2 ejected, of one model on a backend.",
        labels=labels,
    )
    memory = GaugeMetricFamily(
        "arriero_model_memory_bytes",
        "Memory of a resident model; less vram than total is partial CPU offload.",
        labels=(*labels, "kind"),
    )
    for target in _routed(fleet):
        host, model = target.host, target.model
        if host.installed is not None:
            installed.add_metric((host.name, model), model in host.installed)
        loaded = host.resident.get(model)
        resident.add_metric((host.name, model), loaded is not None)
        station = target.station
        state.add_metric((host.name, model), station.residency)
        own = station.breaker.state if station.breaker is not None else AVAILABLE
        breaker.add_metric((host.name, model), own)
        if loaded is not None:
            memory.add_metric((host.name, model, "total"), loaded.size_bytes)
            memory.add_metric((host.name, model, "vram"), loaded.size_vram_bytes)
    yield from (installed, resident, state, breaker, memory)


def _routed(fleet: Fleet) -> Iterable[Target]:
    """Return one target for each pair of host and model: what the configuration bounds."""
    return {
        (target.host.name, target.model): target
        for alias in fleet.aliases.values()
        for target in alias.targets
    }.values()


def _gateway(counters: Counters, lines_dropped: int) -> Iterator[Metric]:
    size = CounterMetricFamily(
        "arriero_client_bytes", "Bytes of bodies exchanged with clients.", labels=("direction",)
    )
    size.add_metric(("received",), counters.request_bytes)
    size.add_metric(("sent",), counters.response_bytes)
    yield size
    for name, text, value in (
        ("arriero_client_connections", "Client connections open.", counters.client_connections),
        ("arriero_requests_open", "Requests not yet settled.", counters.requests_open),
        ("arriero_streams_open", "Streamed answers under way.", counters.streams_open),
    ):
        yield GaugeMetricFamily(name, text, value=value)
    for name, text, value in (
        (
            "arriero_client_connections_accepted",
            "Client connections accepted.",
            counters.client_connections_total,
        ),
        (
            "arriero_malformed_requests",
            "Connections refused because their bytes were no valid HTTP request.",
            counters.malformed_requests,
        ),
        ("arriero_log_lines_dropped", "Access log lines lost to a slow writer.", lines_dropped),
    ):
        yield CounterMetricFamily(name, text, value=value)
    lag = HistogramMetricFamily(
        "arriero_event_loop_lag_seconds", "How late the event loop came to a timer.", labels=()
    )
    _add_histogram(lag, (), counters.loop_lag)
    yield lag
    info = GaugeMetricFamily("arriero_build_info", "Always 1.", labels=("version",))
    info.add_metric((__version__,), 1)
    yield info


def _outside(outside: Outside) -> Iterator[Metric]:
    store = GaugeMetricFamily("arriero_store_up", "1 while the store can be asked.", labels=())
    if outside.store_up is not None:
        store.add_metric((), outside.store_up)
    yield store
    yield CounterMetricFamily(
        "arriero_usage_dropped",
        "Requests whose usage was not written down.",
        value=outside.usage_dropped,
    )
    peers_up = GaugeMetricFamily(
        "arriero_peers_up", "1 while limits and counts are those of all gateways.", labels=()
    )
    peers = GaugeMetricFamily("arriero_peers", "Other gateways that are there.", labels=())
    if outside.peers_up is not None:
        peers_up.add_metric((), outside.peers_up)
        peers.add_metric((), outside.peers)
    yield from (peers_up, peers)


def _table(table: Table, name: str, text: str, labels: tuple[str, ...]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in table.counts.items():
        family.add_metric(values, count)
    return family


def _add_histogram(
    family: HistogramMetricFamily, labels: tuple[str, ...], histogram: Histogram
) -> None:
    buckets: list[tuple[str, float]] = []
    seen = 0
    for bound, count in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
        seen += count
        buckets.append((str(bound), seen))
    family.add_metric(labels, buckets, sum_value=histogram.total)
