"""Whether the model counts as loaded, and until when: Ollama's `keep_alive`.

The weights are mapped all the time; what comes and goes is the standing in `/api/ps` and the
cached conversations. A gateway in front sees the same signs as with Ollama.
"""

import math
import re
from typing import Final

KEEP_ALIVE_DEFAULT_S: Final = 300.0
_UNITS_S: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


def parse_keep_alive(value: float | str | None) -> float:
    """Return seconds: a number is seconds, a string a Go duration, negative is for ever.

    Raises ValueError on a string that is neither, with the words of Go's `time` package.
    """
    if value is None:
        return KEEP_ALIVE_DEFAULT_S
    seconds = _parse_duration(value) if isinstance(value, str) else float(value)
    return math.inf if seconds < 0 else seconds


def _parse_duration(text: str) -> float:
    sign = -1.0 if text.startswith("-") else 1.0
    body = text[1:] if text[:1] in {"+", "-"} else text
    if body == "0":
        return 0.0
    if re.fullmatch(r"\d+(\.\d*)?", body):
        return sign * float(body)
    parts = _PART.findall(body)
    if not parts or "".join(number + unit for number, unit in parts) != body:
        raise ValueError(f"time: invalid duration {text!r}")
    return sign * sum(float(number) * _UNITS_S[unit] for number, unit in parts)


class Residency:
    """One model's standing, told what time it is (Unix seconds)."""

    def __init__(self) -> None:
        self.expires_s: float | None = None
        self.context = 0

    def __repr__(self) -> str:
        return f"<Residency until {self.expires_s}>"

    def loaded(self, unix_s: float) -> bool:
        """Return whether the model is loaded at that time."""
        return self.expires_s is not None and unix_s < self.expires_s

    def use(self, unix_s: float, keep_alive_s: float, context: int) -> None:
        """Note a request's end; the model stays for `keep_alive_s` from then on."""
        self.expires_s = unix_s + keep_alive_s
        self.context = context
