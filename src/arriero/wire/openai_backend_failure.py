"""What the refusals of llama.cpp, vLLM and other servers of OpenAI's API mean."""

from arriero.wire.dialect import Failure, FailureKind
from arriero.wire.refusal import read_refusal
from arriero.wire.verdict import broken, busy, client_fault, refused

_REFUSED = frozenset({400, 405, 413, 415, 422})
_BUSY = frozenset({429, 503})  # llama.cpp says 503 "Loading model" until it is ready
_NOT_FOUND = 404
_NOT_IMPLEMENTED = 501  # llama.cpp: started without what the request needs, such as --embeddings


def decode_failure(status: int, body: bytes) -> Failure:
    """Return what an answer with a status other than 200 means.

    A 401 or 403 is the gateway's own key refused by that backend: a failure of the backend, and
    nothing that the client's key could mend.
    """
    refusal = read_refusal(body)
    fault = client_fault(refusal)
    if fault is not None:
        return fault
    if status == _NOT_FOUND and "model" in refusal.message.lower():
        return Failure(FailureKind.MISSING_MODEL, "the backend does not have the model", 404)
    if status in _REFUSED:
        return refused(refusal, status)
    if status == _NOT_IMPLEMENTED:
        return refused(refusal)
    if status in _BUSY:
        return busy(refusal)
    return broken(refusal)


def decode_stream_error(text: str) -> Failure:
    """Return what the text of an error event means; the status of that answer was 200."""
    refusal = read_refusal(text.encode("utf-8", "replace"))
    return client_fault(refusal) or broken(refusal)
