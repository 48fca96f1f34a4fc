"""Moments as people and log shippers read them."""

from datetime import UTC, datetime


def rfc3339_ms(unix_s: float) -> str:
    """Return a moment as RFC 3339 in UTC with milliseconds: `2025-01-31T23:59:59.999Z`."""
    moment = datetime.fromtimestamp(round(unix_s, 3), tz=UTC)
    return f"{moment.isoformat(timespec='milliseconds')[:-6]}Z"
