"""What a row of the table comes to."""

from collections.abc import Iterable
from enum import Enum

import msgspec


class Severity(Enum):
    """How bad it is. A warning is not yet felt; `UNKNOWN` could not be looked into."""

    PROBLEM = "problem"
    WARNING = "warning"
    GOOD = "good"
    UNKNOWN = "unknown"


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """A symptom, its cause, what shows it, and what to do."""

    row: str
    severity: Severity
    symptom: str
    cause: str = ""
    evidence: tuple[str, ...] = ()
    fix: str = ""


def problem(
    row: str, symptom: str, *, cause: str, fix: str, evidence: Iterable[str] = ()
) -> Diagnosis:
    """Return something that users feel."""
    return Diagnosis(
        row=row,
        severity=Severity.PROBLEM,
        symptom=symptom,
        cause=cause,
        evidence=tuple(evidence),
        fix=fix,
    )


def warning(
    row: str, symptom: str, *, cause: str, fix: str, evidence: Iterable[str] = ()
) -> Diagnosis:
    """Return something that will be felt."""
    return Diagnosis(
        row=row,
        severity=Severity.WARNING,
        symptom=symptom,
        cause=cause,
        evidence=tuple(evidence),
        fix=fix,
    )


def good(row: str, symptom: str) -> Diagnosis:
    """Return a row without a finding; `symptom` says what was seen instead."""
    return Diagnosis(row=row, severity=Severity.GOOD, symptom=symptom)


def unknown(row: str, why: str, fix: str = "") -> Diagnosis:
    """Return a row that could not be looked into."""
    return Diagnosis(row=row, severity=Severity.UNKNOWN, symptom=why, fix=fix)


def exit_code(found: Iterable[Diagnosis]) -> int:
    """Return 1 when there is a problem, 3 when nothing could be told at all, else 0."""
    severities = {diagnosis.severity for diagnosis in found}
    if Severity.PROBLEM in severities:
        return 1
    return 0 if severities & {Severity.GOOD, Severity.WARNING} else 3
