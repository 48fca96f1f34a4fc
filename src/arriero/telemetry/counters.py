"""What is counted, and nothing of how it is shown: plain integers, written on the event loop.

`settle` runs once a request and costs one dictionary look-up and a few additions, because each
combination of labels keeps its own `_Series` with everything that must be counted for it. All
methods belong to the event loop's thread; there are no locks.

Labels are bounded. An alias that is not in the configuration counts as "" (a client could send a
new name with each request), an error code that is not one of ours as "other", and a table that has
reached `SERIES_MAX` entries counts every new combination under empty labels.
"""

from collections.abc import Callable, Iterator

import msgspec

from arriero.base.errors import GatewayError
from arriero.core.fleet import Fleet
from arriero.core.record import Record
from arriero.telemetry.histogram import (
    DURATION_BOUNDS_S,
    FIRST_TOKEN_BOUNDS_S,
    LOOP_LAG_BOUNDS_S,
    QUEUE_WAIT_BOUNDS_S,
    Histogram,
)

SERIES_MAX = 10_000  # combinations of labels in one table

# A float, which is what Prometheus keeps, counts exactly up to here. A backend that claims more
# tokens than that in one answer is lying, and an unbounded integer would break the rendering.


def _codes(kind: type[GatewayError]) -> Iterator[str]:
    yield kind.code
    for child in kind.__subclasses__():
        yield from _codes(child)


ERROR_CODES = frozenset(_codes(GatewayError))


class Table:
    """Counters by a tuple of labels, bounded in number."""

    __slots__ = ("_series_max", "counts")

    def __init__(self, series_max: int = SERIES_MAX) -> None:
        self._series_max = series_max
        self.counts: dict[tuple[str, ...], int] = {}

    def add(self, *labels: str, count: int = 1) -> None:
        """Add `count`; a new combination beyond the bound counts under empty labels."""
        counts = self.counts
        if labels not in counts and len(counts) >= self._series_max:
            labels = ("",) * len(labels)
        counts[labels] = counts.get(labels, 0) + count


class AliasCounts:
    """What is counted for an alias, whatever the operation and its outcome."""

    __slots__ = (
        "cached_tokens", "completion_tokens", "failovers", "first_token", "prompt_tokens",
        "queue_wait", "retries", "tools_dropped",
    )  # fmt: skip

    def __init__(self) -> None:
        self.first_token = Histogram(FIRST_TOKEN_BOUNDS_S)
        self.queue_wait = Histogram(QUEUE_WAIT_BOUNDS_S)
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.completion_tokens = 0
        self.retries = 0
        self.failovers = 0
        self.tools_dropped = 0


class _Series:
    """One combination of labels of `requests_total`, with the coarser ones it belongs to."""

    __slots__ = ("count", "duration", "of_alias")

    def __init__(self, duration: Histogram, of_alias: AliasCounts) -> None:
        self.count = 0
        self.duration = duration
        self.of_alias = of_alias


class Outside(msgspec.Struct, frozen=True):
    """How what the gateway shares with others stands now; None: it has no such thing."""

    store_up: bool | None = None
    usage_dropped: int = 0  # requests whose usage was not written down
    peers_up: bool | None = None
    peers: int = 0  # other gateways that are there


class Counters:
    """Everything the gateway counts. Attributes without an underscore may be written directly."""

    def __init__(self, fleet_view: Callable[[], Fleet], *, series_max: int = SERIES_MAX) -> None:
        """Count for the fleet that `fleet_view` returns; it may change with a reload."""
        self.fleet_view = fleet_view
        self.outside: Callable[[], Outside] = Outside
        self._series_max = series_max
        self.requests: dict[tuple[str, str, int, str], _Series] = {}
        self.durations: dict[tuple[str, str], Histogram] = {}
        self.aliases: dict[str, AliasCounts] = {}
        self.errors = Table(series_max)  # code
        self.backend_failures = Table(series_max)  # backend, reason
        self.ejections = Table(series_max)  # backend
        self.resumptions = Table(series_max)  # outcome
        self.model_ejections = Table(series_max)  # backend, model
        self.model_loads = Table(series_max)  # backend, model, result
        self.probes = Table(series_max)  # backend, result
        self.queue_refusals = Table(series_max)  # reason
        self.limit_refusals = Table(series_max)  # code
        self.batched_requests = 0
        self.reloads = Table(series_max)  # result
        self.loop_lag = Histogram(LOOP_LAG_BOUNDS_S)
        self.request_bytes = 0
        self.response_bytes = 0
        self.client_connections = 0  # gauge: open now
        self.client_connections_total = 0
        self.requests_open = 0  # gauge: read in full or in part, and not settled
        self.streams_open = 0  # gauge: streamed responses under way
        self.malformed_requests = 0  # refused before there was a request to settle

    def settle(self, record: Record) -> None:
        """Count a finished request; call it exactly once for each.

        Token counts are bounded where they are read, in the dialects.
        """
        key = (record.alias, record.operation, record.status, record.outcome)
        series = self.requests.get(key) or self._new_series(key)
        series.count += 1
        series.duration.observe(record.duration_s)
        self.request_bytes += record.request_bytes
        self.response_bytes += record.response_bytes
        if record.attempts:
            alias = series.of_alias
            alias.prompt_tokens += record.prompt_tokens
            alias.cached_tokens += record.cached_tokens
            alias.completion_tokens += record.completion_tokens
            if record.first_token_s >= 0:
                alias.first_token.observe(record.first_token_s)
        if record.queue_s:
            series.of_alias.queue_wait.observe(record.queue_s)
        if record.code:
            self.errors.add(record.code if record.code in ERROR_CODES else "other")
        if record.attempts > 1:
            series.of_alias.retries += record.attempts - 1
            series.of_alias.failovers += record.outcome == "ok"

    def attempt_failed(self, backend: str, reason: str) -> None:
        """Count a failed attempt; `reason` is one of a closed set, never a backend's own words."""
        self.backend_failures.add(self._known(backend), reason)

    def ejected(self, backend: str) -> None:
        """Count an ejection, as `Lease.fail` reports it."""
        self.ejections.add(self._known(backend))

    def model_ejected(self, backend: str, model: str) -> None:
        """Count an ejection of one model on a backend; its name is of the configuration."""
        self.model_ejections.add(self._known(backend), model)

    def model_loaded(self, backend: str, model: str, *, ok: bool) -> None:
        """Count a load by the gateway that has ended."""
        self.model_loads.add(self._known(backend), model, "ok" if ok else "failed")

    def probed(self, backend: str, *, ok: bool) -> None:
        """Count a probe by the gateway that has ended."""
        self.probes.add(self._known(backend), "ok" if ok else "failed")

    def queue_refused(self, reason: str) -> None:
        """Count a request that the queue turned away: `length`, `principal` or `deadline`."""
        self.queue_refusals.add(reason)

    def limit_refused(self, code: str) -> None:
        """Count a request over a limit of its key or model, by the code of its error."""
        self.limit_refusals.add(code)

    def tools_dropped(self, alias: str) -> None:
        """Count a request that lost its tools because no host's model can use them."""
        self._of_alias(alias if alias in self.fleet_view().aliases else "").tools_dropped += 1

    def resumption(self, outcome: str) -> None:
        """Count what became of a stream that broke off in the middle."""
        self.resumptions.add(outcome)

    def reloaded(self, *, ok: bool) -> None:
        """Count an attempt to read the configuration again."""
        self.reloads.add("ok" if ok else "failed")

    def _known(self, backend: str) -> str:
        return backend if backend in self.fleet_view().hosts else ""

    def _new_series(self, key: tuple[str, str, int, str]) -> _Series:
        """Return the series of a key that has none yet; aliases that are none share one."""
        if key[0] and key[0] not in self.fleet_view().aliases:
            key = ("", *key[1:])
            if key in self.requests:
                return self.requests[key]
        if len(self.requests) >= self._series_max:
            key = ("", "", 0, "")
            if key in self.requests:
                return self.requests[key]
        path = key[:2]
        duration = self.durations.get(path)
        if duration is None:
            duration = self.durations[path] = Histogram(DURATION_BOUNDS_S)
        series = self.requests[key] = _Series(duration, self._of_alias(key[0]))
        return series

    def _of_alias(self, alias: str) -> AliasCounts:
        counts = self.aliases.get(alias)
        if counts is None:
            counts = self.aliases[alias] = AliasCounts()
        return counts
