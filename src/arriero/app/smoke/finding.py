"""What one step of the acceptance found, and what all of them come to."""

from collections.abc import Iterable, Mapping
from enum import Enum
from fnmatch import fnmatchcase

import msgspec


class Verdict(Enum):
    """How a step ended.

    `UNMEASURED` does not count: this gateway has no means to tell. Nor does `KNOWN`: it failed,
    and whoever asked had said beforehand that it would, and why it is borne.
    """

    PASS = "pass"  # noqa: S105 - a verdict, no password
    FAIL = "fail"
    KNOWN = "known fault"
    UNMEASURED = "not measured"
    UNKNOWN = "cannot tell"


class Finding(msgspec.Struct, frozen=True):
    """One row of the table: what was asked, how it ended, why, and the way out."""

    step: str
    verdict: Verdict
    detail: str
    hint: str | None = None


class Outcome(Enum):
    """The acceptance as a whole; the value is the exit code."""

    GO = 0
    NO_GO = 1
    CANNOT_TELL = 3


def outcome(findings: Iterable[Finding]) -> Outcome:
    """Return the whole: one failure is no-go, and nothing found at all tells nothing."""
    verdicts = {finding.verdict for finding in findings}
    if Verdict.FAIL in verdicts:
        return Outcome.NO_GO
    if Verdict.UNKNOWN in verdicts or Verdict.PASS not in verdicts:
        return Outcome.CANNOT_TELL
    return Outcome.GO


def excused(finding: Finding, known: Mapping[str, str]) -> Finding:
    """Return a failure that was announced as a known fault; anything else as it is.

    `known` maps names of steps, with `*` for any part, to the reason why the fault is borne.
    """
    reason = next((why for step, why in known.items() if fnmatchcase(finding.step, step)), None)
    if reason is None or finding.verdict is not Verdict.FAIL:
        return finding
    return Finding(finding.step, Verdict.KNOWN, f"{finding.detail} (known: {reason})")


def passed(step: str, detail: str) -> Finding:
    """Return a step that held."""
    return Finding(step, Verdict.PASS, detail)


def failed(step: str, detail: str, hint: str | None = None) -> Finding:
    """Return a step that did not hold."""
    return Finding(step, Verdict.FAIL, detail, hint)


def unmeasured(step: str, detail: str) -> Finding:
    """Return a step that this gateway gives no means to judge."""
    return Finding(step, Verdict.UNMEASURED, detail)


def unknown(step: str, detail: str, hint: str | None = None) -> Finding:
    """Return a step that could not be judged this time."""
    return Finding(step, Verdict.UNKNOWN, detail, hint)
