"""Filters for findings: the table, the outcome, the transcript.

A finding is a dictionary of the words `check`, `verdict`, `expected`, `found` and `mend`. Verdicts:

    pass      as expected
    fail      not as expected; `mend` says what to do
    pending   not as expected, and the role mends it itself in its second phase
    skipped   switched off by the variable that `found` names; never taken for passed
    unknown   could not be asked; counts like a failure
"""

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

Finding = Mapping[str, str]

FAILURES = ("fail", "unknown")
# Settings whose value is nobody's business, in YAML, INI and the like.
SECRET = re.compile(
    r"""^(\s*(?:Environment=)?[-\w."']*(?:passw|secret|psk|private|authtok|auth-key|api_?key|token)[-\w."']*\s*[:=]\s*)\S.*""",
    re.IGNORECASE | re.MULTILINE,
)


def failures(findings: Iterable[Finding]) -> list[Finding]:
    """Return what stands in the way."""
    return [finding for finding in findings if finding["verdict"] in FAILURES]


def outcome(findings: Iterable[Finding]) -> str:
    """Return GO or NO-GO; nothing checked at all is no go either."""
    verdicts = {finding["verdict"] for finding in findings}
    return "GO" if verdicts - {"skipped"} and not verdicts & set(FAILURES) else "NO-GO"


def table(findings: Iterable[Finding]) -> str:
    """Return a table as text, with the way to mend it under each row that needs mending."""
    rows = list(findings)
    columns = ("check", "verdict", "found")
    widths = [max([len(name), *(len(row[name]) for row in rows)]) for name in columns[:2]]
    lines = [_line(columns, widths)]
    for row in rows:
        lines.append(_line([row[name] for name in columns], widths))
        if row["verdict"] in (*FAILURES, "pending"):
            pad = " " * (sum(widths) + 4)
            lines += [f"{pad}expected: {row['expected']}", f"{pad}mend: {row['mend']}"]
    return "\n".join([*lines, "", outcome(rows), ""])


def _line(cells: Iterable[str], widths: list[int]) -> str:
    first, second, last = cells
    return f"{first:<{widths[0]}}  {second:<{widths[1]}}  {last}".rstrip()


def objections(findings: Iterable[Finding]) -> str:
    """Return all failures as one message."""
    return "\n".join(
        f"{f['check']}: found {f['found']}; expected {f['expected']}; mend: {f['mend']}"
        for f in failures(findings)
    )


def settled(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Return the findings of a last look: what is still pending then has failed."""
    return [
        {**finding, "verdict": "fail" if finding["verdict"] == "pending" else finding["verdict"]}
        for finding in findings
    ]


def blotted(text: str) -> str:
    """Return a configuration file's text without the values of passwords, keys and tokens."""
    return SECRET.sub(r"\1***", text)


def transcript(results: Iterable[Mapping[str, Any]]) -> str:
    """Return the commands that were run on a host and what they said, as text."""
    return "\n".join(_said(result) for result in results)


def _said(result: Mapping[str, Any]) -> str:
    item = result["item"]
    command = shlex.join(item["argv"])
    parts = [
        f"$ {command}",
        result.get("stdout", ""),
        result.get("stderr", ""),
        f"[{item['id']}: exit code {result.get('rc', '?')}]\n",
    ]
    return "\n".join(part for part in parts if part)


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "hx_failures": failures,
            "hx_outcome": outcome,
            "hx_table": table,
            "hx_objections": objections,
            "hx_settled": settled,
            "hx_blotted": blotted,
            "hx_transcript": transcript,
        }
