"""OpenAI's API as a backend dialect: llama.cpp, vLLM, LM Studio and their like."""

from typing import assert_never

from arriero.config.settings import Model
from arriero.wire import openai_backend_answer as answer
from arriero.wire import openai_backend_failure as failure
from arriero.wire import openai_backend_request as body
from arriero.wire.canonical import CanonicalRequest, Chat, Chunk, Completion, Embedding, Vectors
from arriero.wire.dialect import BackendDialect, Failure, StreamDecoder


class OpenAiDialect:
    """Speak to a server of OpenAI's API; stateless, one for all hosts."""

    def encode(
        self, request: CanonicalRequest, upstream_model: str, model: Model
    ) -> tuple[bytes, bytes]:
        """Return the path and the JSON body that ask for `request` of `upstream_model`."""
        match request:
            case Chat():
                return b"/v1/chat/completions", body.chat_body(request, upstream_model, model)
            case Completion():
                return b"/v1/completions", body.completion_body(request, upstream_model, model)
            case Embedding():
                return b"/v1/embeddings", body.embedding_body(request, upstream_model)
            case _:
                assert_never(request)

    def stream_decoder(self, request: CanonicalRequest, id_seed: str = "") -> StreamDecoder:
        """Return a decoder for the event stream that answers `request`."""
        return answer.EventDecoder(request, id_seed)

    def decode_answer(self, request: CanonicalRequest, body: bytes, id_seed: str = "") -> Chunk:
        """Return the whole answer. Raises ValueError on what is not one."""
        return answer.decode_answer(request, body, id_seed)

    def decode_vectors(self, body: bytes) -> Vectors:
        """Return the embeddings. Raises ValueError on what is none."""
        return answer.decode_vectors(body)

    def decode_failure(self, status: int, body: bytes) -> Failure:
        """Return what an answer with a status other than 200 means."""
        return failure.decode_failure(status, body)

    def decode_stream_error(self, text: str) -> Failure:
        """Return what an error event after a 200 means."""
        return failure.decode_stream_error(text)


OPENAI: BackendDialect = OpenAiDialect()
