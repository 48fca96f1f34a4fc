"""The filters that all roles share: tables, outcomes, transcripts, and nothing secret."""

import pytest
from tests.deploy.playing import filters

KNOWN = filters("hx_evidence", "hx_findings")


def finding(check: str = "a", verdict: str = "pass", found: str = "x") -> dict[str, str]:
    return {"check": check, "verdict": verdict, "expected": "e", "found": found, "mend": "m"}


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        (["pass"], "GO"),
        (["pass", "skipped"], "GO"),
        (["pass", "pending"], "GO"),
        (["pass", "fail"], "NO-GO"),
        (["pass", "unknown"], "NO-GO"),
        (["skipped"], "NO-GO"),
        ([], "NO-GO"),
    ],
)
def test_what_findings_come_to(verdicts: list[str], outcome: str) -> None:
    assert KNOWN["hx_outcome"](finding(verdict=verdict) for verdict in verdicts) == outcome


def test_a_table_says_how_to_mend_what_needs_it() -> None:
    rows = [finding("first"), finding("second", "fail", "nothing"), finding("third", "skipped")]
    assert KNOWN["hx_table"](rows).splitlines() == [
        "check   verdict  found",
        "first   pass     x",
        "second  fail     nothing",
        "                 expected: e",
        "                 mend: m",
        "third   skipped  x",
        "",
        "NO-GO",
    ]


def test_what_is_pending_at_the_end_has_failed() -> None:
    (settled,) = KNOWN["hx_settled"]([finding(verdict="pending")])
    assert settled["verdict"] == "fail"


def test_a_transcript_can_be_pasted_into_a_shell() -> None:
    result = {"item": {"id": "one", "argv": ["echo", "a b"]}, "rc": 0, "stdout": "a b"}
    assert KNOWN["hx_transcript"]([result]) == "$ echo 'a b'\na b\n[one: exit code 0]\n"


@pytest.mark.parametrize(
    ("line", "clean"),
    [
        ('          password: "hunter2 hunter3"', "          password: ***"),
        ("ldap_default_authtok = hunter2", "ldap_default_authtok = ***"),
        ('Environment="OPENAI_API_KEY=hunter2"', 'Environment="OPENAI_API_KEY=***'),
        ("private-key: hunter2", "private-key: ***"),
        ("addresses: [198.51.100.5/24]", "addresses: [198.51.100.5/24]"),
        ("%hx-linux-admins ALL=(ALL:ALL) ALL", "%hx-linux-admins ALL=(ALL:ALL) ALL"),
        ("PasswordAuthentication no", "PasswordAuthentication no"),
    ],
)
def test_no_secret_of_a_configuration_is_kept(line: str, clean: str) -> None:
    assert KNOWN["hx_blotted"](f"first\n{line}\nlast\n") == f"first\n{clean}\nlast\n"
