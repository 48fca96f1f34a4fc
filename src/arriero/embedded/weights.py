"""The weights in memory, and the cache file they are mapped from.

A GGUF file holds blocks of four-bit numbers; turning them into 32-bit floats takes seconds and
would cost each process its own half gigabyte. So it is done once, into a cache file that every
process maps: the second server starts at once and shares the first one's pages. The file is

    8 bytes   magic, with the format's version
    8 bytes   length of the header, little-endian
    header    JSON: `Header`
    padding   zeros up to a multiple of 64
    tensors   32-bit floats, little-endian, row by row, in the header's order

The matrices that read the same input are stored as one (query, key and value; gate and up),
because one large product is faster than several small ones.
"""

import math
import mmap
import struct
from collections.abc import Mapping
from typing import BinaryIO, Final

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

MAGIC: Final = b"arriero1"
ALIGNMENT: Final = 64
HEADER_BYTES_MAX: Final = 16 * 1024 * 1024
_PREFIX: Final = struct.Struct("<8sQ")


class Hyper(msgspec.Struct, frozen=True, kw_only=True):
    """The shape of a Llama model, named as in the GGUF metadata."""

    block_count: int
    context_length: int
    embedding_length: int
    feed_forward_length: int
    head_count: int
    head_count_kv: int
    rope_dimension_count: int
    rope_freq_base: float
    layer_norm_rms_epsilon: float
    vocab_size: int


class Vocabulary(msgspec.Struct, frozen=True, kw_only=True):
    """The tokeniser's tables. `control` are the ids that no ordinary text can produce."""

    tokens: list[str]
    merges: list[str]
    control: list[int]
    eos_ids: list[int]


class TensorPlace(msgspec.Struct, frozen=True):
    """Where a tensor stands: `offset` counts floats from the first tensor's first."""

    name: str
    shape: tuple[int, ...]
    offset: int


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """Everything but the numbers. `digest` is the SHA-256 of the GGUF file."""

    digest: str
    gguf_bytes: int
    gguf_name: str
    hyper: Hyper
    chat_template: str
    vocabulary: Vocabulary
    tensors: list[TensorPlace]

    @property
    def parameter_count(self) -> int:
        """How many numbers the model has."""
        return sum(math.prod(place.shape) for place in self.tensors)


class Layer(msgspec.Struct, frozen=True):
    """One transformer block; matrices are (outputs, inputs)."""

    attention_norm: Floats
    qkv: Floats
    attention_output: Floats
    ffn_norm: Floats
    gate_up: Floats
    down: Floats


class Weights(msgspec.Struct, frozen=True):
    """A whole model; `embedding` also turns the last hidden state into logits (tied)."""

    hyper: Hyper
    embedding: Floats
    layers: tuple[Layer, ...]
    output_norm: Floats


class NotWeights(Exception):
    """A file that is not a weight cache of this format, or not all of one."""


def build_weights(hyper: Hyper, tensors: Mapping[str, Floats]) -> Weights:
    """Return the model made of `tensors`, named as `Layer` names them, `0.qkv` for one."""
    layers = tuple(
        Layer(*(tensors[f"{index}.{field}"] for field in Layer.__struct_fields__))
        for index in range(hyper.block_count)
    )
    return Weights(hyper, tensors["embedding"], layers, tensors["output_norm"])


def write_weights(file: BinaryIO, header: Header, tensors: Mapping[str, Floats]) -> None:
    """Write the cache file; `header.tensors` is replaced by where they really went."""
    places: list[TensorPlace] = []
    offset = 0
    for name, tensor in tensors.items():
        places.append(TensorPlace(name, tensor.shape, offset))
        offset += tensor.size
    encoded = msgspec.json.encode(msgspec.structs.replace(header, tensors=places))
    file.write(_PREFIX.pack(MAGIC, len(encoded)))
    file.write(encoded)
    file.write(bytes(-file.tell() % ALIGNMENT))
    for tensor in tensors.values():
        file.write(np.ascontiguousarray(tensor, dtype="<f4").data)


def read_weights(file: BinaryIO) -> tuple[Header, Weights]:
    """Map a cache file read-only. Raises NotWeights on anything that is not a whole one."""
    prefix = file.read(_PREFIX.size)
    if len(prefix) < _PREFIX.size:
        raise NotWeights("too short")
    magic, header_bytes = _PREFIX.unpack(prefix)
    if magic != MAGIC or header_bytes > HEADER_BYTES_MAX:
        raise NotWeights("another format")
    try:
        header = msgspec.json.decode(file.read(header_bytes), type=Header)
    except msgspec.DecodeError as error:
        raise NotWeights(f"unreadable header: {error}") from error
    start = file.tell() + -file.tell() % ALIGNMENT
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return header, build_weights(header.hyper, _views(mapped, start, header.tensors))


def _views(mapped: mmap.mmap, start: int, places: list[TensorPlace]) -> dict[str, Floats]:
    """Return the tensors as views into the mapping, which lives as long as they do."""
    expected = sum(math.prod(place.shape) for place in places) * 4
    if len(mapped) - start != expected:
        raise NotWeights(f"{len(mapped) - start} bytes of tensors instead of {expected}")
    return {
        place.name: np.frombuffer(
            mapped, "<f4", count=math.prod(place.shape), offset=start + place.offset * 4
        ).reshape(place.shape)
        for place in places
    }
