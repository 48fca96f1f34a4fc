"""Turn a GGUF file into the weight cache, once, however many processes want it at the same time."""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import gguf
import numpy as np
from gguf import GGUFReader, ReaderTensor

from arriero.embedded.weights import (
    Floats,
    Header,
    Hyper,
    NotWeights,
    Vocabulary,
    Weights,
    read_weights,
    write_weights,
)

ARCHITECTURE: Final = "llama"
CONTROL_TOKEN: Final = 3  # gguf.TokenType.CONTROL: a marker, never a piece of text
TURN_ENDS: Final = ("<|im_end|>", "<|endoftext|>")

# Our name of a block's tensor, and the GGUF tensors it is stacked from.
PARTS: Final = {
    "attention_norm": ("attn_norm",),
    "qkv": ("attn_q", "attn_k", "attn_v"),
    "attention_output": ("attn_output",),
    "ffn_norm": ("ffn_norm",),
    "gate_up": ("ffn_gate", "ffn_up"),
    "down": ("ffn_down",),
}


def cache_directory() -> Path:
    """Return `arriero` in the user's cache directory (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "arriero"


def load_weights(path: Path, directory: Path | None = None) -> tuple[Header, Weights]:
    """Return the model of a GGUF file, through the cache in `directory` (default: the user's).

    Takes seconds the first time and milliseconds from then on. A cache that cannot be written
    (read-only home, full disk) is done without: the floats then live in an unnamed temporary
    file of this process alone. Raises OSError when there is no room for that either.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    where = directory or cache_directory()
    cached = where / f"{path.stem}-{digest[:12]}.f32"
    try:
        where.mkdir(parents=True, exist_ok=True)
        with _locked(where / f"{cached.name}.lock"):
            return _read(cached) or _convert_into(cached, path, digest)
    except OSError:
        with tempfile.TemporaryFile() as file:
            return _convert(file, path, digest)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file: of two servers that start together, one converts and the other waits."""
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(cached: Path) -> tuple[Header, Weights] | None:
    """Return the cached model, or None when there is none that can be used."""
    try:
        with cached.open("rb") as file:
            return read_weights(file)
    except (FileNotFoundError, NotWeights):
        return None


def _convert_into(cached: Path, path: Path, digest: str) -> tuple[Header, Weights]:
    """Convert beside `cached` and rename: nobody ever sees half a file. Call it with the lock."""
    part = cached.with_suffix(".part")
    try:
        with part.open("w+b") as file:
            model = _convert(file, path, digest)
        part.replace(cached)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    return model


def _convert(file: BinaryIO, path: Path, digest: str) -> tuple[Header, Weights]:
    """Write the floats into `file` and map them from there."""
    reader = GGUFReader(path)
    hyper = read_hyper(reader)
    header = Header(
        digest=digest,
        gguf_bytes=path.stat().st_size,
        gguf_name=path.name,
        hyper=hyper,
        chat_template=_field(reader, "tokenizer.chat_template"),
        vocabulary=_vocabulary(reader),
        tensors=[],
    )
    write_weights(file, header, _tensors(reader, hyper))
    file.flush()
    file.seek(0)
    return read_weights(file)


def read_hyper(reader: GGUFReader) -> Hyper:
    """Return the model's shape. Raises NotWeights for another architecture than Llama's."""
    architecture = _field(reader, "general.architecture")
    if architecture != ARCHITECTURE:
        raise NotWeights(f"architecture {architecture!r}, only {ARCHITECTURE!r} is implemented")
    values = {
        field: _field(reader, f"{ARCHITECTURE}.{key}")
        for field, key in (
            ("block_count", "block_count"),
            ("context_length", "context_length"),
            ("embedding_length", "embedding_length"),
            ("feed_forward_length", "feed_forward_length"),
            ("head_count", "attention.head_count"),
            ("head_count_kv", "attention.head_count_kv"),
            ("rope_dimension_count", "rope.dimension_count"),
            ("rope_freq_base", "rope.freq_base"),
            ("layer_norm_rms_epsilon", "attention.layer_norm_rms_epsilon"),
            ("vocab_size", "vocab_size"),
        )
    }
    return Hyper(**values)


def _vocabulary(reader: GGUFReader) -> Vocabulary:
    tokens: list[str] = _field(reader, "tokenizer.ggml.tokens")
    kinds: list[int] = _field(reader, "tokenizer.ggml.token_type")
    return Vocabulary(
        tokens=tokens,
        merges=_field(reader, "tokenizer.ggml.merges"),
        control=[index for index, kind in enumerate(kinds) if kind == CONTROL_TOKEN],
        eos_ids=[tokens.index(text) for text in TURN_ENDS if text in tokens],
    )


def _field(reader: GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    if field is None:
        raise NotWeights(f"the GGUF file has no {key}")
    return field.contents()


def _tensors(reader: GGUFReader, hyper: Hyper) -> dict[str, Floats]:
    """Return all tensors as floats under our names."""
    stored = {tensor.name: tensor for tensor in reader.tensors}
    tensors = {"embedding": _floats(stored["token_embd.weight"])}
    for index in range(hyper.block_count):
        for name, parts in PARTS.items():
            stack = [_floats(stored[f"blk.{index}.{part}.weight"]) for part in parts]
            tensors[f"{index}.{name}"] = np.concatenate(stack)
    tensors["output_norm"] = _floats(stored["output_norm.weight"])
    return tensors


def _floats(tensor: ReaderTensor) -> Floats:
    return gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
