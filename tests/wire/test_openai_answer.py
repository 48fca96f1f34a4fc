"""Embeddings and models, read back by the types of OpenAI's own SDK."""

import base64
import json

import numpy as np
import pytest
from openai.types import CreateEmbeddingResponse, Model

from arriero.wire.canonical import Usage, Vectors
from arriero.wire.openai_answer import encode_embeddings, encode_model, encode_models

VECTORS = Vectors([[0.1, -2.5, 3e-9], [1.0, 0.0, 1e30]], Usage(prompt_tokens=4))


def test_embeddings_as_floats() -> None:
    body = encode_embeddings(VECTORS, "float", "embedder")
    got = CreateEmbeddingResponse.model_validate_json(body, strict=True)
    assert [one.embedding for one in got.data] == VECTORS.vectors
    assert [one.index for one in got.data] == [0, 1]
    assert (got.model, got.object) == ("embedder", "list")
    assert (got.usage.prompt_tokens, got.usage.total_tokens) == (4, 4)


def test_embeddings_as_base64_are_little_endian_32_bit_floats() -> None:
    got = json.loads(encode_embeddings(VECTORS, "base64", "embedder"))
    for one, vector in zip(got["data"], VECTORS.vectors, strict=True):
        decoded = np.frombuffer(base64.b64decode(one["embedding"]), dtype="<f4")
        assert decoded.tolist() == np.array(vector, dtype="<f4").tolist()


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_no_embeddings(encoding: str) -> None:
    body = encode_embeddings(Vectors([], Usage()), encoding, "m")  # type: ignore[arg-type]  # a Literal
    assert json.loads(body)["data"] == []


def test_models() -> None:
    got = json.loads(encode_models(["a", "b/c"], 5))
    assert got["object"] == "list"
    models = [Model.model_validate(one, strict=True) for one in got["data"]]
    assert [(one.id, one.object, one.created) for one in models] == [
        ("a", "model", 5),
        ("b/c", "model", 5),
    ]
    assert json.loads(encode_model("a", 5)) == got["data"][0]
    assert json.loads(encode_models([], 5))["data"] == []
