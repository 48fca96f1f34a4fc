"""Requests of the gateway's own to a model: loads and probes, and how they end.

They end in the same ways as attempts for clients, so that the same table says what that means.
"""

import msgspec

from arriero.core.attempts import END_OF_FAILURE, End
from arriero.fleet.errors import UpstreamError, UpstreamFull, UpstreamMalformed, UpstreamRefused
from arriero.fleet.fetch import fetch
from arriero.fleet.pool import Pool
from arriero.wire.dialect import BackendDialect, Failure

STATUS_OK = 200

_ENDS: tuple[tuple[type[Exception], End], ...] = (  # the first that fits
    (TimeoutError, End.TIMED_OUT),  # a subclass of OSError
    (UpstreamFull, End.BUSY),  # one of UpstreamRefused
    (UpstreamRefused, End.REFUSED),
    (UpstreamMalformed, End.MALFORMED),
    (UpstreamError, End.RESET),
    (OSError, End.RESET),
)


class Answer(msgspec.Struct, frozen=True):
    """How it ended; `body` is there when it was answered."""

    end: End
    body: bytes = b""
    failure: Failure | None = None


async def ask(
    pool: Pool,
    dialect: BackendDialect,
    path: bytes,
    body: bytes,
    *,
    timeout_s: float,
    connect_timeout_s: float,
) -> Answer:
    """Send a request and return how it ended; ANSWERED is any answer with status 200."""
    try:
        status, answer = await fetch(
            pool, path, timeout_s, body, connect_timeout_s=connect_timeout_s
        )
    except (OSError, UpstreamError) as error:
        return Answer(next(end for kind, end in _ENDS if isinstance(error, kind)))
    if status == STATUS_OK:
        return Answer(End.ANSWERED, answer)
    failure = dialect.decode_failure(status, answer)
    return Answer(END_OF_FAILURE[failure.kind], failure=failure)
