"""What can be served now, and how long to wait when nothing can."""

import pytest

from arriero.config.settings import Backend, Model, Route, Routing
from arriero.core.catalog import is_ready, retry_after_s, suggest
from arriero.core.fleet import Fleet, take_lease
from arriero.core.health import Cause
from arriero.wire.inventory import Listed


@pytest.fixture
def fleet() -> Fleet:
    routes = tuple(Route(backend=name, model="m:1") for name in ("a", "b"))
    return Fleet(
        [Backend(name=name, url=f"http://{name}") for name in ("a", "b", "other")],
        [
            Model(name="llama3-8b", routes=routes),
            Model(name="phi3", routes=routes),
            Model(name="apart", routes=(Route(backend="other", model="m:1"),)),
        ],
        Routing(ejection_s=5.0, ejection_max_s=600.0, probe_interval_s=0.0),
    )


def eject(fleet: Fleet, name: str, now_s: float) -> None:
    target = next(t for t in fleet.aliases["phi3"].targets if t.host.name == name)
    take_lease(target, turn=1, now_s=now_s).fail(now_s, Cause.SILENT)


def test_a_fleet_is_ready_when_a_host_is_known_to_have_a_model(fleet: Fleet) -> None:
    assert not is_ready(fleet, 0.0)
    fleet.hosts["a"].installed = {"another:1": Listed()}
    assert not is_ready(fleet, 0.0)
    fleet.hosts["b"].installed = {"m:1": Listed()}
    assert is_ready(fleet, 0.0)


def test_an_ejected_host_makes_nothing_ready_until_it_may_be_tried(fleet: Fleet) -> None:
    fleet.hosts["a"].installed = {"m:1": Listed()}
    eject(fleet, "a", 0.0)
    for now_s, ready in ((4.9, False), (5.0, True)):
        fleet.roster.sweep(now_s)
        assert is_ready(fleet, now_s) is ready


@pytest.mark.parametrize(("now_s", "wait_s"), [(0.0, 6), (1.5, 4), (4.9, 1), (5.0, 1), (9.0, 1)])
def test_the_wait_is_that_for_the_first_host(fleet: Fleet, now_s: float, wait_s: int) -> None:
    eject(fleet, "a", 0.0)
    eject(fleet, "b", 3.0)
    assert retry_after_s(fleet.aliases["phi3"], now_s) == wait_s


def test_other_models_hosts_do_not_count(fleet: Fleet) -> None:
    eject(fleet, "a", 0.0)
    eject(fleet, "b", 0.0)
    take_lease(fleet.aliases["apart"].targets[0], turn=1, now_s=-4.0).fail(-4.0, Cause.SILENT)
    assert retry_after_s(fleet.aliases["phi3"], 0.0) == 6


def test_the_wait_is_at_least_a_second_and_at_most_a_minute(fleet: Fleet) -> None:
    assert 1 <= retry_after_s(fleet.aliases["phi3"], 0.0) <= 60
    for _ in range(8):
        for name in ("a", "b"):
            eject(fleet, name, fleet.hosts[name].breaker.until_s)
    last_s = max(host.breaker.until_s for host in fleet.hosts.values()) - 600.0
    assert retry_after_s(fleet.aliases["phi3"], last_s) == 60


@pytest.mark.parametrize(
    ("name", "alias"), [("llama3:8b", "llama3-8b"), ("phi-3", "phi3"), ("gpt-4o", None), ("", None)]
)
def test_a_near_name_is_suggested(fleet: Fleet, name: str, alias: str | None) -> None:
    assert suggest(fleet, name) == alias


def test_a_model_that_is_left_out_is_waited_for_as_a_host_is(fleet: Fleet) -> None:
    for name in ("a", "b"):
        target = next(t for t in fleet.aliases["phi3"].targets if t.host.name == name)
        take_lease(target, turn=1, now_s=0.0).fail(0.0, Cause.LOAD)
    assert retry_after_s(fleet.aliases["phi3"], 0.0) == 6
    assert retry_after_s(fleet.aliases["apart"], 0.0) == 2
