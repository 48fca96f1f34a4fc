"""Notations of values: `90s`, `64MiB`, `http://host:11434`, Ollama's keep-alive.

Each function takes what YAML gave and returns the value, or raises `NotThisForm` with words that
complete the sentence "must be ...".
"""

import math
import re
from collections.abc import Callable
from typing import Final

from arriero.config.tree import Scalar

_DURATION_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+\Z", re.ASCII)
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?\Z", re.ASCII)

_SIZE_UNITS: Final = {
    "": 1, "B": 1,
    "kB": 1000, "KB": 1000, "MB": 1000**2, "GB": 1000**3,
    "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3,
}  # fmt: skip
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?) ?([kKMG]?i?B|)\Z", re.ASCII)

# Ollama reads a text with Go's time.ParseDuration, which wants a unit with every number.
_GO_DURATION: Final = re.compile(r"[-+]?(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+\Z", re.ASCII)
_WHOLE: Final = re.compile(r"[-+]?\d{1,9}\Z", re.ASCII)

_URL: Final = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?\.?|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(?::(?P<port>\d{1,5}))?"
    r"(?P<path>(?:/[A-Za-z0-9._~%+-]*)*)\Z",
    re.ASCII | re.IGNORECASE,
)
_PORT_MAX: Final = 65_535
_DIGITS_MAX: Final = 32


class NotThisForm(Exception):
    """A value that is not of the form; the words complete "must be ..."."""

    def __init__(self, expected: str, hint: str | None = None) -> None:
        self.expected = expected
        self.hint = hint
        super().__init__(expected)


def duration(value: Scalar) -> float:
    """Return seconds from `30`, `0.5`, `"30s"`, `"1h30m"`."""
    if isinstance(value, str) and len(value) <= _DIGITS_MAX:
        if _DURATION.match(value):
            parts = _DURATION_PART.findall(value)
            return sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts)
        if _NUMBER.match(value):
            return float(value)
    elif isinstance(value, (int, float)) and _is_finite_number(value):
        return float(value)
    raise NotThisForm("a number of seconds or a duration such as 30s, 5m, 1h30m")


def size(value: Scalar) -> int:
    """Return bytes from `65536`, `"64KiB"`, `"10MB"`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and len(value) <= _DIGITS_MAX and (match := _SIZE.match(value)):
        number, unit = match.groups()
        factor = _SIZE_UNITS.get(unit)
        if factor is not None:
            return int(float(number) * factor)
    raise NotThisForm("a number of bytes or a size such as 64KiB, 10MB")


def keep_alive(value: Scalar) -> int | str:
    """Return how long Ollama keeps a model: whole seconds, or a Go duration such as `10m`.

    Negative means for ever, 0 unload at once. A text without a unit, which Ollama would refuse,
    becomes the number it looks like.
    """
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**9:
        return value
    if isinstance(value, str) and len(value) <= _DIGITS_MAX:
        if _WHOLE.match(value):
            return int(value)
        if _GO_DURATION.match(value):
            return value
    raise NotThisForm("whole seconds, a duration such as 10m, or -1 (for ever)")


def url(value: Scalar) -> str:
    """Return an http(s) address, its scheme and host in lower case, without trailing slashes.

    The message never shows the address: somebody may have put a password into it.
    """
    if not isinstance(value, str):
        raise NotThisForm("an address such as http://host:11434")
    match = _URL.match(value.strip())
    if match is None:
        raise NotThisForm(*_url_complaint(value.strip()))
    port = match["port"]
    if port is not None and not 0 < int(port) <= _PORT_MAX:
        raise NotThisForm("an address whose port is between 1 and 65535")
    where = f":{int(port)}" if port is not None else ""
    return f"{match['scheme'].lower()}://{match['host'].lower()}{where}{match['path'].rstrip('/')}"


def split_url(address: str) -> tuple[str, int | None, str]:
    """Return host (without brackets), port if one is written, and path of a checked address."""
    match = _URL.match(address)
    assert match is not None, "split_url takes what url() returned"
    port = match["port"]
    return match["host"].strip("[]"), int(port) if port else None, match["path"]


def _url_complaint(text: str) -> tuple[str, str | None]:
    if "@" in text:
        return "an address without user and password", "put the key into `api_key`"
    if "?" in text or "#" in text:
        return "an address without `?` and `#`", None
    if "://" not in text:
        return "an address with its scheme", "put `http://` before it"
    return "an http:// or https:// address with a host", "for example http://host:11434"


def _is_finite_number(value: float) -> bool:
    """Say whether this is a number, and one that a float can hold."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 10**15
    return math.isfinite(value)


FORMS: Final[dict[str, Callable[[Scalar], int | float | str]]] = {
    "duration": duration,
    "size": size,
    "keep-alive": keep_alive,
    "url": url,
}
