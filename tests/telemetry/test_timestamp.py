"""Moments as RFC 3339, to and fro."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.telemetry.timestamp import rfc3339_ms


@pytest.mark.parametrize(
    ("unix_s", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1738367999.999, "2025-01-31T23:59:59.999Z"),
        (1738367999.9996, "2025-02-01T00:00:00.000Z"),  # rounded up into the next second
        (1709210096.05, "2024-02-29T12:34:56.050Z"),
    ],
)
def test_moments_are_written_in_utc_with_milliseconds(unix_s: float, text: str) -> None:
    assert rfc3339_ms(unix_s) == text


@given(st.floats(0, 4e9))
def test_every_moment_reads_back(unix_s: float) -> None:
    text = rfc3339_ms(unix_s)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    assert datetime.fromisoformat(text).astimezone(UTC).timestamp() == pytest.approx(
        unix_s, abs=0.00051
    )
