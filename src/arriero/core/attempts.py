"""What the end of one attempt means: for the backend's record, and for the request.

Theory. An attempt is one request on one backend. It ends in exactly one way (`End`), and the
table says three things about each: which mark the backend gets (None: none), what happens next,
and which error tells the client if nobody else can be asked. Whether content was
already sent to the client is not in the table: after that the request must not be asked again,
because the answer would be told twice; `resume` knows what may be asked then.
"""

from enum import Enum
from typing import NamedTuple

from arriero.base.errors import (
    BackendFailed,
    BackendTimeout,
    BadRequest,
    GatewayError,
    NoBackend,
    UnknownModel,
)
from arriero.core.health import Cause
from arriero.wire.dialect import FailureKind


class End(Enum):
    """How an attempt ended; the value is the reason's name in metrics and logs."""

    ANSWERED = "answered"
    REFUSED = "refused"  # no connection
    RESET = "reset"  # closed before the first byte of an answer
    TIMED_OUT = "timed_out"  # no first token, or no whole answer, in time
    STALLED = "stalled"  # silent in mid-stream
    BROKEN = "broken"  # ended without saying that it is done
    MALFORMED = "malformed"  # not HTTP, not NDJSON, not an answer
    FAILED = "failed"  # HTTP 5xx, or an error line in the stream
    LOAD_FAILED = "load_failed"
    BUSY = "busy"
    MISSING_MODEL = "missing_model"
    CLIENT_FAULT = "client_fault"
    FINAL = "final"  # would repeat anywhere
    DIVERGED = "diverged"  # went on with a broken stream in other words than those it had


class Next(Enum):
    """What to do when nothing of the answer was sent yet."""

    STOP = 0
    ASK_FREELY = 1  # ask another; it cost no time, so it does not count against `retries`
    RETRY = 2  # ask another, if `retries` are left


class Rule(NamedTuple):
    """One row of the table."""

    mark: Cause | None
    next: Next
    error: type[GatewayError]
    message: str


RULES: dict[End, Rule] = {
    End.ANSWERED: Rule(None, Next.STOP, GatewayError, ""),
    End.REFUSED: Rule(Cause.REFUSED, Next.ASK_FREELY, NoBackend, "no backend can be reached"),
    End.RESET: Rule(Cause.LOST, Next.RETRY, BackendFailed, "the backend closed the connection"),
    End.TIMED_OUT: Rule(Cause.SILENT, Next.RETRY, BackendTimeout, "the backend did not answer"),
    End.STALLED: Rule(Cause.SILENT, Next.RETRY, BackendTimeout, "the backend fell silent"),
    End.BROKEN: Rule(Cause.LOST, Next.RETRY, BackendFailed, "the backend broke off its answer"),
    End.MALFORMED: Rule(Cause.STATUS, Next.RETRY, BackendFailed, "the backend's answer is garbled"),
    End.FAILED: Rule(Cause.STATUS, Next.RETRY, BackendFailed, "the backend reported a failure"),
    End.LOAD_FAILED: Rule(Cause.LOAD, Next.RETRY, BackendFailed, "the model could not be loaded"),
    End.BUSY: Rule(None, Next.ASK_FREELY, NoBackend, "every backend of this model is busy"),
    End.MISSING_MODEL: Rule(
        None, Next.ASK_FREELY, UnknownModel, "no backend has this model installed"
    ),
    End.CLIENT_FAULT: Rule(None, Next.STOP, BadRequest, "the backend refused the request"),
    End.DIVERGED: Rule(None, Next.RETRY, BackendFailed, "the answer could not be continued"),
    End.FINAL: Rule(None, Next.STOP, BackendFailed, "the model could not finish this answer"),
}

BUSY_RETRY_AFTER_S = 1  # nobody knows when a slot becomes free; a second is soon, and no flood


def more_telling(last: GatewayError | None, new: GatewayError) -> GatewayError:
    """Return which of two failures of one request the client should hear of.

    A backend that tried and failed tells more than one that could not be asked, and that one more
    than a model's absence: a host that is down may well have the model.
    """
    return last if last is not None and _weight(last) > _weight(new) else new


def _weight(error: GatewayError) -> int:
    if isinstance(error, UnknownModel):
        return 0
    return 1 if isinstance(error, NoBackend) else 2


END_OF_FAILURE: dict[FailureKind, End] = {
    FailureKind.CLIENT: End.CLIENT_FAULT,
    FailureKind.MISSING_MODEL: End.MISSING_MODEL,
    FailureKind.BUSY: End.BUSY,
    FailureKind.BROKEN: End.FAILED,
    FailureKind.FINAL: End.FINAL,
}
