"""Ollama's native API as a backend dialect.

Native and never its `/v1`: only here is an error in mid-stream visible, are num_ctx, keep_alive and
think settable, do the model's own sampling defaults stay and are prompt tokens counted.
"""

from typing import assert_never

from arriero.config.settings import Model
from arriero.wire import ollama_answer, ollama_failure, ollama_request
from arriero.wire.canonical import CanonicalRequest, Chat, Chunk, Completion, Embedding, Vectors
from arriero.wire.dialect import BackendDialect, Failure, StreamDecoder


class OllamaDialect:
    """Speak to Ollama; stateless, one for all hosts."""

    def encode(
        self, request: CanonicalRequest, upstream_model: str, model: Model
    ) -> tuple[bytes, bytes]:
        """Return the path and the JSON body that ask for `request` of `upstream_model`."""
        match request:
            case Chat():
                return b"/api/chat", ollama_request.chat_body(request, upstream_model, model)
            case Completion():
                body = ollama_request.generate_body(request, upstream_model, model)
                return b"/api/generate", body
            case Embedding():
                return b"/api/embed", ollama_request.embed_body(request, upstream_model, model)
            case _:
                assert_never(request)

    def stream_decoder(self, request: CanonicalRequest, id_seed: str = "") -> StreamDecoder:
        """Return a decoder for the NDJSON answer to `request`."""
        return ollama_answer.LineDecoder(request, id_seed)

    def decode_answer(self, request: CanonicalRequest, body: bytes, id_seed: str = "") -> Chunk:
        """Return the whole answer. Raises ValueError on what is not one."""
        return ollama_answer.decode_answer(request, body, id_seed)

    def decode_vectors(self, body: bytes) -> Vectors:
        """Return the embeddings. Raises ValueError on what is none."""
        return ollama_answer.decode_vectors(body)

    def decode_failure(self, status: int, body: bytes) -> Failure:
        """Return what an answer with a status other than 200 means."""
        return ollama_failure.decode_failure(status, body)

    def decode_stream_error(self, text: str) -> Failure:
        """Return what an error line after a 200 means."""
        return ollama_failure.decode_stream_error(text)


OLLAMA: BackendDialect = OllamaDialect()
