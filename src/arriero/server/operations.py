"""What a client can ask of a model: how each request is read, and how its answer is written.

A new client dialect is a new entry here: a decoder of its bodies, a writer for whole answers and,
if it streams, an encoder. Everything between the two speaks the canonical structs.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from arriero.core.record import Record
from arriero.wire.canonical import CanonicalRequest, Chat, Completion, Embedding, Usage
from arriero.wire.dialect import AnswerEncoder, BackendDialect
from arriero.wire.openai_answer import ChatAnswer, CompletionAnswer, encode_embeddings, whole_chat
from arriero.wire.openai_request import decode_chat, decode_completion, decode_embedding


class Answering(Protocol):
    """What an answer is written with: the exchange."""

    id: str
    record: Record


Encode = Callable[[CanonicalRequest, Answering], AnswerEncoder]
Write = Callable[[CanonicalRequest, Answering, BackendDialect, bytes], tuple[bytes, Usage | None]]


class Operation(msgspec.Struct, frozen=True):
    """One thing to ask. `encoder` is None for what cannot be streamed.

    `write_whole` makes a client's body of a backend's; it raises ValueError on what is no answer.
    """

    name: str
    decode: Callable[[bytes], CanonicalRequest]
    write_whole: Write
    encoder: Encode | None = None


def _chat_encoder(wanted: CanonicalRequest, answering: Answering) -> ChatAnswer:
    assert isinstance(wanted, Chat)
    return ChatAnswer(
        answering.id,
        int(answering.record.started_unix_s),
        answering.record.alias,
        include_usage=wanted.include_usage,
    )


def _completion_encoder(wanted: CanonicalRequest, answering: Answering) -> CompletionAnswer:
    assert isinstance(wanted, Completion)
    return CompletionAnswer(
        answering.id,
        int(answering.record.started_unix_s),
        answering.record.alias,
        include_usage=wanted.include_usage,
        echo=wanted.prompt if wanted.echo else "",
    )


def _write_chat(
    wanted: CanonicalRequest, answering: Answering, dialect: BackendDialect, body: bytes
) -> tuple[bytes, Usage | None]:
    answer_id, record = answering.id, answering.record
    chunk = dialect.decode_answer(wanted, body, answer_id)
    return whole_chat(answer_id, record.started_unix_s, record.alias, chunk), chunk.usage


def _write_with(encoder: Encode) -> Write:
    def write(
        wanted: CanonicalRequest, answering: Answering, dialect: BackendDialect, body: bytes
    ) -> tuple[bytes, Usage | None]:
        chunk = dialect.decode_answer(wanted, body, answering.id)
        return encoder(wanted, answering).whole(chunk), chunk.usage

    return write


def _write_vectors(
    wanted: CanonicalRequest, answering: Answering, dialect: BackendDialect, body: bytes
) -> tuple[bytes, Usage | None]:
    assert isinstance(wanted, Embedding)
    vectors = dialect.decode_vectors(body)
    if len(vectors.vectors) != len(wanted.inputs):
        raise ValueError("there is not one vector for each input")
    return encode_embeddings(vectors, wanted.encoding, answering.record.alias), vectors.usage


CHAT = Operation("chat", decode_chat, _write_chat, _chat_encoder)
COMPLETION = Operation(
    "completion", decode_completion, _write_with(_completion_encoder), _completion_encoder
)
EMBEDDING = Operation("embedding", decode_embedding, _write_vectors)
