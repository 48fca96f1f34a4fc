"""Faults that a simulation shows on request, chosen at run time.

A fault waits in the book until a request matches it. `count` faults are used up, others stay until
they are cleared. With `probability` below 1 a request may be spared; the draw comes from the
book's own seeded generator, so a run can be repeated.
"""

import fnmatch
import itertools
import random
from enum import StrEnum
from typing import Final

import msgspec


class Kind(StrEnum):
    """What goes wrong. `before` ones need no answer begun, `mid` ones act after `after` pieces."""

    REFUSE = "refuse"  # close the listener for `for_s` seconds; the request itself is reset
    HANG = "hang"  # accept, read, never answer
    RESET = "reset"  # RST instead of an answer
    GARBAGE = "garbage"  # bytes that are not HTTP
    STATUS = "status"  # an HTTP error with Ollama's text, or `text`
    SLOW = "slow"  # wait `delay_s` before every piece
    WEDGED = "wedged"  # generation hangs and keeps its slot, while every GET stays green
    CRASH = "crash"  # the runner dies: 500 before the first piece, an error line after
    OUT_OF_MEMORY = "oom"  # the runner runs out of memory: an error, and every model unloads
    LOAD_FAILED = "load_failed"  # the model cannot be loaded
    HANG_MID = "hang_mid"  # stop writing, keep the connection
    RESET_MID = "reset_mid"  # RST
    CLOSE_MID = "close_mid"  # FIN without the last chunk
    EOF_MID = "eof_mid"  # a clean end, but no `done` line
    ERROR_MID = "error_mid"  # an error line (`text`), then a clean end
    MALFORMED_MID = "malformed_mid"  # half a JSON line, then the stream goes on
    REPEAT = "repeat"  # the same token over and over, then a silent end (Ollama before the fix)


BEFORE: Final = frozenset({Kind.REFUSE, Kind.HANG, Kind.RESET, Kind.GARBAGE, Kind.STATUS})


class Fault(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One fault. `endpoint` and `model` are shell patterns; `*` matches everything.

    `after` counts the pieces (chunks, tokens) that still come through. `count` is how many
    requests are hit, None for all. `status` and `text` say what STATUS and ERROR_MID answer.
    """

    kind: Kind
    endpoint: str = "*"
    model: str = "*"
    count: int | None = None
    probability: float = 1.0
    after: int = 0
    status: int = 500
    text: str = ""
    delay_s: float = 0.0
    for_s: float = 0.0
    id: int = 0

    def matches(self, endpoint: str, model: str) -> bool:
        """Say whether a request to `endpoint` for `model` ("" when it names none) is meant."""
        return fnmatch.fnmatchcase(endpoint, self.endpoint) and fnmatch.fnmatchcase(
            model, self.model
        )


class FaultBook:
    """The faults of one host, in the order in which they were added."""

    def __init__(self, seed: int = 0) -> None:
        self._faults: list[Fault] = []
        self._ids = itertools.count(1)
        self._chance = random.Random(seed)  # noqa: S311 - repeatable tests, not secrets

    def __repr__(self) -> str:
        return f"<FaultBook {[str(fault.kind) for fault in self._faults]}>"

    def add(self, fault: Fault) -> int:
        """Put a copy of a fault in force; return the id by which `remove` knows it."""
        kept = msgspec.structs.replace(fault, id=next(self._ids))
        self._faults.append(kept)
        return kept.id

    def remove(self, fault_id: int) -> bool:
        """Take one fault out; False when it is used up or unknown."""
        before = len(self._faults)
        self._faults = [fault for fault in self._faults if fault.id != fault_id]
        return len(self._faults) < before

    def clear(self) -> None:
        """Take all faults out."""
        self._faults.clear()

    def all(self) -> list[Fault]:
        """Return the faults in force."""
        return list(self._faults)

    def take(self, endpoint: str, model: str, *, inference: bool) -> Fault | None:
        """Return a copy of the first fault that hits this request, counting it as used.

        Requests that generate nothing meet only the faults that come before any answer.
        """
        for fault in self._faults:
            applies = inference or fault.kind in BEFORE
            if applies and fault.matches(endpoint, model) and self._hits(fault):
                self._use(fault)
                return msgspec.structs.replace(fault)
        return None

    def _hits(self, fault: Fault) -> bool:
        return fault.probability >= 1 or self._chance.random() < fault.probability

    def _use(self, fault: Fault) -> None:
        if fault.count is not None:
            fault.count -= 1
            if fault.count <= 0:
                self._faults.remove(fault)
