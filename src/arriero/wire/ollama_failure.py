"""What Ollama's refusals mean.

Statuses and words: server/routes.go and llm/llama_server.go of Ollama. A 500 stands for anything
there, from a dead runner to a client's bad schema, so words come before the status.
"""

from arriero.wire.dialect import Failure, FailureKind
from arriero.wire.refusal import Refusal, read_refusal
from arriero.wire.verdict import broken, busy, client_fault, refused

# Over thirty, later a hundred, equal tokens in a row: the model loops, and would on any host.
_ENDLESS = "token repeat limit"
_REFUSED = frozenset({400, 405, 413, 415, 422})
_BUSY = frozenset({429, 503})

# Words by which this host, and perhaps not another, cannot serve the model. Ollama's router answers
# an unknown path with 404 too, in plain text without the word. A 403 is a stub of a cloud model on
# a host whose cloud is off.
_LACKS_MODEL: dict[int, tuple[str, ...]] = {
    400: ("model is required", "invalid model name", "remote model"),
    403: ("cloud", "remote"),
    404: ("model",),
}


def decode_failure(status: int, body: bytes) -> Failure:
    """Return what an answer with a status other than 200 means."""
    refusal = read_refusal(body)
    return _by_words(refusal) or _by_status(status, refusal)


def decode_stream_error(text: str) -> Failure:
    """Return what the text of an `error` line means; the status of that answer was 200."""
    refusal = read_refusal(text.encode("utf-8", "replace"))
    return _by_words(refusal) or broken(refusal)


def _by_words(refusal: Refusal) -> Failure | None:
    text = refusal.message.lower()
    if _ENDLESS in text:
        return Failure(FailureKind.FINAL, "The model repeated one token without end.")
    if "server busy" in text or "maximum pending requests" in text:
        return Failure(FailureKind.BUSY, "the backend's queue is full", 503)
    return client_fault(refusal)


def _by_status(status: int, refusal: Refusal) -> Failure:
    text = refusal.message.lower()
    if any(words in text for words in _LACKS_MODEL.get(status, ())):
        return Failure(FailureKind.MISSING_MODEL, "the backend does not have the model", 404)
    if status in _REFUSED:
        return refused(refusal, status)
    if status in _BUSY:
        return busy(refusal)
    return broken(refusal)
