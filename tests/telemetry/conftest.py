"""A small fleet with its metrics, and a reader of the page they make."""

from collections.abc import Callable

import pytest

from arriero.config.settings import Backend, Model, Route, Routing
from arriero.core.fleet import Fleet
from arriero.telemetry.metrics import Metrics


@pytest.fixture
def fleet() -> Fleet:
    """Two hosts; "chat" runs on both, "embed" on the first."""
    backends = [Backend(name="a", url="http://a"), Backend(name="b", url="http://b")]
    chat = Model(
        name="chat",
        routes=(Route(backend="a", model="m:1"), Route(backend="b", model="m:1")),
    )
    embed = Model(name="embed", routes=(Route(backend="a", model="e:1"),))
    return Fleet(backends, [chat, embed], Routing())


@pytest.fixture
def metrics(fleet: Fleet) -> Metrics:
    return Metrics(lambda: fleet, lambda: 7, lambda: (1, 0, 3, 0))


@pytest.fixture
def sample(metrics: Metrics) -> Callable[..., float | None]:
    """Return a function that reads one sample of the rendered page, None when there is none."""
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415 - slow

    def read(name: str, **labels: str) -> float | None:
        for family in text_string_to_metric_families(metrics.render().decode()):
            for found in family.samples:
                if found.name == name and found.labels == labels:
                    return float(found.value)
        return None

    return read
