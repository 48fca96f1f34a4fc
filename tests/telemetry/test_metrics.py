"""The page at /metrics, and its agreement with its document."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.parser import text_string_to_metric_families

from arriero import __version__
from arriero.core.fleet import Fleet, take_lease
from arriero.core.health import Cause
from arriero.core.record import Record
from arriero.telemetry.counters import Outside
from arriero.telemetry.metrics import CONTENT_TYPE, Metrics
from arriero.wire.inventory import Listed, Loaded

Sample = Callable[..., float | None]

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


def fill(metrics: Metrics) -> None:
    metrics.settle(
        Record(
            alias="chat",
            operation="chat",
            status=200,
            outcome="ok",
            attempts=2,
            duration_s=0.3,
            first_token_s=0.1,
            prompt_tokens=5,
            cached_tokens=2,
            completion_tokens=6,
            code="internal_error",
            queue_s=0.2,
        )
    )
    metrics.queue_refused("length")
    metrics.limit_refused("rate_limit_exceeded")
    metrics.attempt_failed("a", "silent")
    metrics.ejected("a")
    metrics.model_ejected("a", "m:1")
    metrics.model_loaded("a", "m:1", ok=True)
    metrics.probed("a", ok=False)
    metrics.resumption("resumed")
    metrics.reloaded(ok=True)


def exported(page: bytes) -> dict[str, tuple[str, frozenset[str]]]:
    """Return kind and labels by family name, as it is written in the page."""
    found = {}
    for family in text_string_to_metric_families(page.decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for one in family.samples for label in one.labels} - {"le"}
        found[name] = (family.type, frozenset(labels))
    return found


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    found = {}
    for line in DOCUMENT.read_text().splitlines():
        if not line.startswith("| `"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        labels = re.findall(r"`(\w+)`", cells[2]) if len(cells) == 4 else []
        found[cells[0].strip("`")] = (cells[1], frozenset(labels))
    return found


def test_every_family_is_documented_with_kind_and_labels_and_vice_versa(
    metrics: Metrics, fleet: Fleet
) -> None:
    fleet.hosts["a"].installed = {"m:1": Listed()}
    fleet.hosts["a"].resident = {"m:1": Loaded()}
    fill(metrics)
    assert exported(metrics.render()) == documented()


def test_every_family_is_there_before_the_first_request(metrics: Metrics) -> None:
    assert exported(metrics.render()).keys() == documented().keys()


def test_requests_and_tokens_are_shown(metrics: Metrics, sample: Sample) -> None:
    fill(metrics)
    labels = {"alias": "chat", "operation": "chat"}
    assert sample("arriero_requests_total", **labels, status="200", outcome="ok") == 1
    assert sample("arriero_request_duration_seconds_count", **labels) == 1
    assert sample("arriero_request_duration_seconds_sum", **labels) == 0.3
    assert sample("arriero_tokens_total", alias="chat", kind="cached") == 2
    assert sample("arriero_retries_total", alias="chat") == 1
    assert sample("arriero_failovers_total", alias="chat") == 1
    assert sample("arriero_backend_failures_total", backend="a", reason="silent") == 1


def test_buckets_are_cumulative_and_end_with_all(metrics: Metrics, sample: Sample) -> None:
    for first_token_s in (0.05, 0.06, 5000.0):
        metrics.settle(
            Record(alias="chat", operation="chat", attempts=1, first_token_s=first_token_s)
        )
    bucket = "arriero_time_to_first_token_seconds_bucket"
    assert sample(bucket, alias="chat", le="0.025") == 0
    assert sample(bucket, alias="chat", le="0.05") == 1
    assert sample(bucket, alias="chat", le="0.1") == 2
    assert sample(bucket, alias="chat", le="600.0") == 2
    assert sample(bucket, alias="chat", le="+Inf") == 3


def test_backends_are_shown_as_they_are_now(metrics: Metrics, fleet: Fleet, sample: Sample) -> None:
    first, second = fleet.aliases["chat"].targets
    lease = take_lease(first, turn=1, now_s=0.0)
    take_lease(second, turn=2, now_s=0.0).fail(0.0, Cause.SILENT)
    assert sample("arriero_backend_in_flight", backend="a") == 1
    assert sample("arriero_backend_state", backend="a") == 0
    assert sample("arriero_backend_state", backend="b") == 2
    assert sample("arriero_backend_requests_total", backend="b") == 1
    lease.succeed()
    assert sample("arriero_backend_in_flight", backend="a") == 0


def test_a_model_is_unknown_then_installed_then_resident(fleet: Fleet, sample: Sample) -> None:
    host = fleet.hosts["a"]
    chat = {"backend": "a", "model": "m:1"}
    assert sample("arriero_model_installed", **chat) is None
    host.installed = {"m:1": Listed(), "nobody routes here:1": Listed()}
    assert sample("arriero_model_installed", **chat) == 1
    assert sample("arriero_model_installed", backend="a", model="e:1") == 0
    assert sample("arriero_model_installed", backend="a", model="nobody routes here:1") is None
    assert sample("arriero_model_resident", **chat) == 0
    assert sample("arriero_model_memory_bytes", **chat, kind="vram") is None
    host.resident = {"m:1": Loaded(size_bytes=10, size_vram_bytes=6)}
    assert sample("arriero_model_resident", **chat) == 1
    assert sample("arriero_model_memory_bytes", **chat, kind="total") == 10
    assert sample("arriero_model_memory_bytes", **chat, kind="vram") == 6


def test_gauges_are_plain_attributes(metrics: Metrics, sample: Sample) -> None:
    metrics.client_connections = 3
    metrics.client_connections_total = 9
    metrics.requests_open = 2
    metrics.streams_open = 1
    metrics.malformed_requests = 4
    assert sample("arriero_client_connections") == 3
    assert sample("arriero_client_connections_accepted_total") == 9
    assert sample("arriero_requests_open") == 2
    assert sample("arriero_streams_open") == 1
    assert sample("arriero_malformed_requests_total") == 4
    assert sample("arriero_log_lines_dropped_total") == 7
    assert sample("arriero_build_info", version=__version__) == 1


def test_a_store_is_up_or_down_or_there_is_none(metrics: Metrics, sample: Sample) -> None:
    assert sample("arriero_store_up") is None
    metrics.outside = lambda: Outside(store_up=False, usage_dropped=3)
    assert sample("arriero_store_up") == 0
    assert sample("arriero_usage_dropped_total") == 3
    metrics.outside = lambda: Outside(store_up=True)
    assert sample("arriero_store_up") == 1


@pytest.mark.parametrize("alias", ['quo"te', "back\\slash", "new\nline", "ünï"])
def test_label_values_are_escaped(fleet: Fleet, alias: str) -> None:
    fleet.aliases[alias] = fleet.aliases["chat"]
    metrics = Metrics(lambda: fleet)
    metrics.tools_dropped(alias)
    shown = [
        one.labels["alias"]
        for family in text_string_to_metric_families(metrics.render().decode())
        if family.name == "arriero_tools_dropped"
        for one in family.samples
    ]
    assert shown == [alias]


def test_the_content_type_is_that_of_the_library() -> None:
    assert CONTENT_TYPE == CONTENT_TYPE_PLAIN_0_0_4


def test_importing_the_metrics_does_not_import_prometheus() -> None:
    # It costs 78 ms of a start that has to be over within a second.
    code = "import arriero.telemetry.metrics, sys; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
