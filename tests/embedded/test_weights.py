import io
from pathlib import Path

import numpy as np
import pytest

from arriero.embedded.weights import (
    ALIGNMENT,
    Floats,
    Header,
    NotWeights,
    read_weights,
    write_weights,
)


@pytest.fixture
def written(tmp_path: Path, header: Header, tensors: dict[str, Floats]) -> Path:
    path = tmp_path / "small.f32"
    with path.open("wb") as file:
        write_weights(file, header, tensors)
    return path


def test_what_is_written_is_read(written: Path, header: Header, tensors: dict[str, Floats]) -> None:
    with written.open("rb") as file:
        read, weights = read_weights(file)
    assert read.hyper == header.hyper
    assert read.vocabulary == header.vocabulary
    assert read.parameter_count == sum(tensor.size for tensor in tensors.values())
    np.testing.assert_array_equal(weights.embedding, tensors["embedding"])
    np.testing.assert_array_equal(weights.output_norm, tensors["output_norm"])
    for index, layer in enumerate(weights.layers):
        np.testing.assert_array_equal(layer.qkv, tensors[f"{index}.qkv"])
        np.testing.assert_array_equal(layer.down, tensors[f"{index}.down"])


def test_tensors_are_aligned_and_cannot_be_written(written: Path) -> None:
    with written.open("rb") as file:
        _, weights = read_weights(file)
    assert weights.embedding.ctypes.data % ALIGNMENT == 0
    with pytest.raises(ValueError, match="read-only"):
        weights.embedding[0, 0] = 1.0


@pytest.mark.parametrize("left", [0, 8, 15, 16, 100, -4])
def test_half_a_file_is_refused(written: Path, left: int) -> None:
    written.write_bytes(written.read_bytes()[:left])
    with written.open("rb") as file, pytest.raises(NotWeights):
        read_weights(file)


def test_more_than_a_file_is_refused(written: Path) -> None:
    written.write_bytes(written.read_bytes() + b"1234")
    with written.open("rb") as file, pytest.raises(NotWeights, match="bytes of tensors"):
        read_weights(file)


@pytest.mark.parametrize(
    "content",
    [b"GGUF" + bytes(60), b"arriero0" + bytes(60), b"arriero1" + b"\xff" * 60],
    ids=["gguf", "older", "huge-header"],
)
def test_another_format_is_refused(content: bytes) -> None:
    with pytest.raises(NotWeights, match="another format"):
        read_weights(io.BytesIO(content))
