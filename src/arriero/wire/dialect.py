"""What a dialect must offer: the client's half, and the backend's mirror of it."""

from enum import Enum
from typing import Protocol

import msgspec

from arriero.base.errors import GatewayError
from arriero.config.settings import Model
from arriero.wire.canonical import CanonicalRequest, Chunk, Vectors


class AnswerEncoder(Protocol):
    """Write one answer to a client. Made once per response; holds its id and constant heads."""

    def chunk(self, chunk: Chunk) -> bytes:
        """Return the stream events for a chunk, possibly none (b"")."""
        ...

    def whole(self, chunk: Chunk) -> bytes:
        """Return the body of a response that is not streamed."""
        ...

    def error(self, error: GatewayError, request_id: str) -> bytes:
        """Return the stream event that tells of a failure after the response began."""
        ...

    def end(self) -> bytes:
        """Return what closes a stream that went well."""
        ...


class FailureKind(Enum):
    """What a backend's answer that is no success means for the request and for the backend."""

    CLIENT = "client"  # the request's own fault: told to the client, no mark on the backend
    MISSING_MODEL = "missing_model"  # this host lacks the model: correct the inventory, ask another
    BUSY = "busy"  # full: ask another, no mark
    BROKEN = "broken"  # a failure of the backend: mark it, ask another
    FINAL = "final"  # a failure that would repeat anywhere (token repeat abort): do not ask another


class Failure(msgspec.Struct, frozen=True):
    """A decoded refusal: its kind and the backend's own words, cleaned of addresses.

    `needed` and `available` are tokens, of a prompt that is too long; 0 is not told.
    """

    kind: FailureKind
    message: str
    status: int = 502
    param: str | None = None
    code: str | None = None
    needed: int = 0
    available: int = 0


class StreamDecoder(Protocol):
    """Read one streamed answer of a backend, split anywhere."""

    finished: bool  # the backend said it is done: anything less at EOF is a broken stream

    def feed(self, data: bytes) -> list[Chunk]:
        """Return the chunks completed by `data`. Raises ValueError on what is not the format."""
        ...


class BackendDialect(Protocol):
    """Speak to one kind of backend."""

    def encode(
        self, request: CanonicalRequest, upstream_model: str, model: Model
    ) -> tuple[bytes, bytes]:
        """Return the path and the JSON body that ask for `request` of `upstream_model`.

        Raises BadRequest on what this kind of backend cannot be told at all.
        """
        ...

    def stream_decoder(self, request: CanonicalRequest, id_seed: str = "") -> StreamDecoder:
        """Return a decoder for the streamed answer to `request`.

        `id_seed` makes the ids of tool calls unique where the backend gives none of its own.
        """
        ...

    def decode_answer(self, request: CanonicalRequest, body: bytes, id_seed: str = "") -> Chunk:
        """Return the whole answer. Raises ValueError on what is not one."""
        ...

    def decode_vectors(self, body: bytes) -> Vectors:
        """Return the embeddings. Raises ValueError on what is none."""
        ...

    def decode_failure(self, status: int, body: bytes) -> Failure:
        """Return what an answer with a status other than 200 means."""
        ...

    def decode_stream_error(self, text: str) -> Failure:
        """Return what a chunk's `error` means: the backend gave up after its 200."""
        ...
