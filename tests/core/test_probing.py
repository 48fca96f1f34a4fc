"""When one token is asked for, and when it is not."""

import pytest

from arriero.core.probing import IDLE_PROBES_MAX, Seen, is_due

NOW_S, INTERVAL_S = 1000.0, 60.0
QUIET = Seen(loaded=True, running=0, answered_s=NOW_S - INTERVAL_S, probes=0, kept=False)


def test_a_loaded_quiet_model_is_asked() -> None:
    assert is_due(QUIET, NOW_S, INTERVAL_S)


@pytest.mark.parametrize(
    "seen",
    [
        QUIET._replace(loaded=False),
        QUIET._replace(running=1),
        QUIET._replace(answered_s=NOW_S - INTERVAL_S + 0.001),
        QUIET._replace(probes=IDLE_PROBES_MAX),
    ],
)
def test_it_is_left_alone(seen: Seen) -> None:
    assert not is_due(seen, NOW_S, INTERVAL_S)


def test_what_is_kept_for_ever_is_asked_for_ever() -> None:
    assert is_due(QUIET._replace(probes=10_000, kept=True), NOW_S, INTERVAL_S)
    assert is_due(QUIET._replace(probes=IDLE_PROBES_MAX - 1), NOW_S, INTERVAL_S)


def test_zero_is_off() -> None:
    assert not is_due(QUIET, NOW_S, 0.0)
