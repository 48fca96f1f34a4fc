"""Answers in OpenAI's form: the encoders of each operation, under one name."""

import base64
import sys
from array import array
from typing import Literal

import msgspec

from arriero.wire.canonical import Vectors
from arriero.wire.openai_chat_answer import ChatAnswer, whole_chat
from arriero.wire.openai_completion_answer import CompletionAnswer

__all__ = [
    "ChatAnswer",
    "CompletionAnswer",
    "encode_embeddings",
    "encode_model",
    "encode_models",
    "whole_chat",
]

_OWNER = "arriero"


def encode_embeddings(
    vectors: Vectors, encoding: Literal["float", "base64"], model_alias: str
) -> bytes:
    """Return the body of an embeddings answer.

    OpenAI's SDKs ask for base64 on their own and expect little-endian 32-bit floats within.
    """
    written = [_base64(one) for one in vectors.vectors] if encoding == "base64" else vectors.vectors
    tokens = vectors.usage.prompt_tokens
    return msgspec.json.encode(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": one}
                for index, one in enumerate(written)
            ],
            "model": model_alias,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def encode_models(names: list[str], created: int) -> bytes:
    """Return the body of the list of models; `created` is unix seconds."""
    return msgspec.json.encode(
        {"object": "list", "data": [_model(name, created) for name in names]}
    )


def encode_model(name: str, created: int) -> bytes:
    """Return the body that describes one model."""
    return msgspec.json.encode(_model(name, created))


def _model(name: str, created: int) -> dict[str, object]:
    return {"id": name, "object": "model", "created": created, "owned_by": _OWNER}


def _base64(vector: list[float]) -> str:
    packed = array("f", vector)
    if sys.byteorder == "big":
        packed.byteswap()
    return base64.b64encode(packed.tobytes()).decode()
