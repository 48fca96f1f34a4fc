"""The table of attempts' ends: total, and right about who is to blame."""

import pytest

from arriero.base.errors import (
    BackendError,
    BackendFailed,
    ClientError,
    Fault,
    GatewayError,
    NoBackend,
    UnknownModel,
)
from arriero.core.attempts import END_OF_FAILURE, RULES, End, Next, more_telling
from arriero.core.health import Cause
from arriero.wire.dialect import FailureKind


def test_every_end_has_its_rule() -> None:
    assert RULES.keys() == set(End)


def test_every_failure_a_dialect_can_report_has_its_end() -> None:
    assert END_OF_FAILURE.keys() == set(FailureKind)


@pytest.mark.parametrize("end", End)
def test_names_are_fit_for_labels(end: End) -> None:
    assert end.value.replace("_", "").isalpha()


@pytest.mark.parametrize("end", set(End) - {End.ANSWERED})
def test_every_bad_end_has_words_for_the_client(end: End) -> None:
    error = RULES[end].error(RULES[end].message)
    assert error.message
    assert error.status >= 400
    assert "://" not in error.text


def test_a_clients_own_fault_marks_nobody_and_is_not_repeated() -> None:
    rule = RULES[End.CLIENT_FAULT]
    assert (rule.mark, rule.next) == (None, Next.STOP)
    assert rule.error.fault is Fault.CLIENT
    assert issubclass(rule.error, ClientError)


@pytest.mark.parametrize("end", [End.BUSY, End.MISSING_MODEL])
def test_what_another_backend_may_have_costs_no_retry_and_no_mark(end: End) -> None:
    assert (RULES[end].mark, RULES[end].next) == (None, Next.ASK_FREELY)


def test_what_would_repeat_anywhere_is_not_repeated() -> None:
    assert (RULES[End.FINAL].mark, RULES[End.FINAL].next) == (None, Next.STOP)


@pytest.mark.parametrize(
    ("end", "cause"),
    [
        (End.REFUSED, Cause.REFUSED),
        (End.RESET, Cause.LOST),
        (End.BROKEN, Cause.LOST),
        (End.TIMED_OUT, Cause.SILENT),
        (End.STALLED, Cause.SILENT),
        (End.MALFORMED, Cause.STATUS),
        (End.FAILED, Cause.STATUS),
    ],
)
def test_a_backends_fault_is_marked_and_asked_elsewhere(end: End, cause: Cause) -> None:
    rule = RULES[end]
    assert rule.mark is cause
    assert rule.next is not Next.STOP
    # Who could not even be asked may be there again in a moment, and a client may come back.
    assert issubclass(rule.error, NoBackend if end is End.REFUSED else BackendError)


TRIED, ASKED, ABSENT = BackendFailed("tried"), NoBackend("could not be asked"), UnknownModel("none")


@pytest.mark.parametrize(
    ("last", "new", "told"),
    [
        (None, ABSENT, ABSENT),
        (ABSENT, ASKED, ASKED),
        (ASKED, ABSENT, ASKED),
        (TRIED, ASKED, TRIED),
        (ASKED, TRIED, TRIED),
    ],
)
def test_the_client_hears_what_tells_most(
    last: GatewayError | None, new: GatewayError, told: GatewayError
) -> None:
    assert more_telling(last, new) is told


def test_of_two_alike_the_later_is_told() -> None:
    later = BackendFailed("later")
    assert more_telling(TRIED, later) is later
