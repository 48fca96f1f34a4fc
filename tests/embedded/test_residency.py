import math

import pytest

from arriero.embedded.residency import KEEP_ALIVE_DEFAULT_S, Residency, parse_keep_alive


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, KEEP_ALIVE_DEFAULT_S),
        (0, 0.0),
        (90, 90.0),
        (-1, math.inf),
        ("0", 0.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1.5s", 1.5),
        ("300ms", 0.3),
        ("-1", math.inf),
        ("-5m", math.inf),
        ("+2s", 2.0),
        ("60", 60.0),
    ],
    ids=repr,
)
def test_keep_alive_is_read_as_ollama_reads_it(value: float | str | None, seconds: float) -> None:
    assert parse_keep_alive(value) == pytest.approx(seconds)


@pytest.mark.parametrize("value", ["", "soon", "5 m", "m", "--5s", "5m!", "1h30"])
def test_nonsense_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        parse_keep_alive(value)


def test_a_model_is_not_loaded_before_its_first_request() -> None:
    assert not Residency().loaded(0.0)


@pytest.mark.parametrize(("later_s", "loaded"), [(0.0, True), (4.9, True), (5.0, False)])
def test_it_stays_as_long_as_it_was_asked_to(later_s: float, *, loaded: bool) -> None:
    residency = Residency()
    residency.use(100.0, 5.0, 2048)
    assert residency.loaded(100.0 + later_s) is loaded
    assert residency.context == 2048


def test_keep_alive_zero_unloads() -> None:
    residency = Residency()
    residency.use(100.0, 300.0, 1)
    residency.use(101.0, 0.0, 1)
    assert not residency.loaded(101.0)
