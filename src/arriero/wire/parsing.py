"""One way for foreign JSON to fail: ValueError, whatever is wrong with it."""

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

T = TypeVar("T")

# A count of tokens: beyond 2^53 a JSON reader loses digits, and sums of such would grow for ever.
Count = Annotated[int, Meta(ge=0, le=2**53)]


def parse(decoder: msgspec.json.Decoder[T], data: bytes | str) -> T:
    """Return the decoded value. Raises ValueError on bad JSON, bad UTF-8 and what does not fit.

    msgspec's own errors are ValueErrors, but nesting deeper than the interpreter's stack is a
    RecursionError, with which a peer could otherwise end a connection's task.
    """
    try:
        return decoder.decode(data)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
