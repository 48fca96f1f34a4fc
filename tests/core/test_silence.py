"""The table of silence: who speaks for a host, and what that is worth."""

import itertools

import pytest

from arriero.core.silence import Verdict, Witness, judge

ASKED_S = 100.0
SILENT = Witness(silent=True, loaded=True, answered_s=0.0)
COLD = Witness(silent=False, loaded=False, answered_s=500.0)
SPOKE = Witness(silent=False, loaded=True, answered_s=ASKED_S)
QUIET = Witness(silent=False, loaded=True, answered_s=ASKED_S - 0.001)

TABLE = {
    (): Verdict.EJECT,
    (COLD,): Verdict.EJECT,
    (SILENT,): Verdict.EJECT,
    (SPOKE,): Verdict.KEEP,
    (QUIET,): Verdict.PROBE,
    (QUIET, SPOKE): Verdict.KEEP,
    (COLD, QUIET): Verdict.PROBE,
    (COLD, SPOKE): Verdict.KEEP,
    (COLD, SILENT): Verdict.EJECT,
    (SPOKE, SILENT): Verdict.EJECT,
    (QUIET, SILENT): Verdict.EJECT,
    (COLD, QUIET, SPOKE): Verdict.KEEP,
    (COLD, QUIET, SPOKE, SILENT): Verdict.EJECT,
}


@pytest.mark.parametrize(("others", "verdict"), TABLE.items())
def test_the_table_in_any_order(others: tuple[Witness, ...], verdict: Verdict) -> None:
    for order in itertools.permutations(others):
        assert judge(ASKED_S, order) is verdict


def test_a_silent_model_that_is_no_longer_loaded_still_counts() -> None:
    assert judge(ASKED_S, [SPOKE, SILENT._replace(loaded=False)]) is Verdict.EJECT
