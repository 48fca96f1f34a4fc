"""What a model that fell silent says about its host: nothing yet, or that the host is wedged.

Theory. A request that times out ejects its station (the model on that host) at once. The host may
be well: one runner hangs, and another model beside it answers. Or it is wedged, as Ollama was for
40 hours with every `/api/*` green (ollama #18370), and each further model would cost a user the
whole timeout to find out. What tells the two apart is a generation by another model of the host.

    other models of the host                        the host is
    one of them is silent, too                      ejected: it is not the one model
    none is loaded                                  ejected: nobody speaks for it
    one has answered since the silent one was asked kept: it speaks for the host
    loaded, but none has answered since             probed at once: the answer decides

A probe that fails makes its own station silent, and so brings about the first row.
"""

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple


class Verdict(Enum):
    """What becomes of the host."""

    KEEP = "keep"
    PROBE = "probe"
    EJECT = "eject"


class Witness(NamedTuple):
    """Another station of the host: is it ejected for silence, loaded, and when did it answer."""

    silent: bool
    loaded: bool
    answered_s: float


def judge(asked_s: float, others: Iterable[Witness]) -> Verdict:
    """Return what becomes of a host one of whose models, asked at `asked_s`, did not answer."""
    verdict = Verdict.EJECT
    for other in others:
        if other.silent:
            return Verdict.EJECT
        if other.loaded and other.answered_s >= asked_s:
            verdict = Verdict.KEEP
        elif other.loaded and verdict is Verdict.EJECT:
            verdict = Verdict.PROBE
    return verdict
