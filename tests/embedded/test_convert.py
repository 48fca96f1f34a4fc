import fcntl
import hashlib
import threading
from pathlib import Path

import gguf
import numpy as np
import pytest

from arriero.embedded.convert import cache_directory, load_weights
from arriero.embedded.weights import Floats, Hyper, NotWeights, Vocabulary

TEMPLATE = "{{ messages }}"


def write_gguf(
    path: Path, hyper: Hyper, vocabulary: Vocabulary, tensors: dict[str, Floats]
) -> None:
    """A GGUF file as llama.cpp's converter writes one, with separate matrices."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(hyper.block_count)
    writer.add_context_length(hyper.context_length)
    writer.add_embedding_length(hyper.embedding_length)
    writer.add_feed_forward_length(hyper.feed_forward_length)
    writer.add_head_count(hyper.head_count)
    writer.add_head_count_kv(hyper.head_count_kv)
    writer.add_rope_dimension_count(hyper.rope_dimension_count)
    writer.add_rope_freq_base(hyper.rope_freq_base)
    writer.add_layer_norm_rms_eps(hyper.layer_norm_rms_epsilon)
    writer.add_vocab_size(hyper.vocab_size)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types([3 if i in vocabulary.control else 1 for i in range(hyper.vocab_size)])
    writer.add_token_merges(vocabulary.merges)
    writer.add_chat_template(TEMPLATE)
    writer.add_tensor("token_embd.weight", tensors["embedding"])
    writer.add_tensor("output_norm.weight", tensors["output_norm"])
    size = hyper.embedding_length // hyper.head_count
    query, keys = hyper.head_count * size, hyper.head_count_kv * size
    for index in range(hyper.block_count):
        q, k, v = np.split(tensors[f"{index}.qkv"], [query, query + keys])
        gate, up = np.split(tensors[f"{index}.gate_up"], 2)
        parts = {
            "attn_norm": tensors[f"{index}.attention_norm"],
            "attn_q": q,
            "attn_k": k,
            "attn_v": v,
            "attn_output": tensors[f"{index}.attention_output"],
            "ffn_norm": tensors[f"{index}.ffn_norm"],
            "ffn_gate": gate,
            "ffn_up": up,
            "ffn_down": tensors[f"{index}.down"],
        }
        for name, part in parts.items():
            writer.add_tensor(f"blk.{index}.{name}.weight", np.ascontiguousarray(part))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def small_gguf(
    tmp_path: Path, hyper: Hyper, vocabulary: Vocabulary, tensors: dict[str, Floats]
) -> Path:
    path = tmp_path / "small.gguf"
    write_gguf(path, hyper, vocabulary, tensors)
    return path


def test_a_gguf_file_becomes_the_model_it_holds(
    small_gguf: Path,
    tmp_path: Path,
    hyper: Hyper,
    vocabulary: Vocabulary,
    tensors: dict[str, Floats],
) -> None:
    header, weights = load_weights(small_gguf, tmp_path / "cache")
    assert header.digest == hashlib.sha256(small_gguf.read_bytes()).hexdigest()
    assert header.gguf_bytes == small_gguf.stat().st_size
    assert header.chat_template == TEMPLATE
    assert header.hyper.head_count_kv == hyper.head_count_kv
    assert header.hyper.rope_freq_base == pytest.approx(hyper.rope_freq_base)
    assert header.vocabulary.tokens == vocabulary.tokens
    assert set(header.vocabulary.eos_ids) == set(vocabulary.eos_ids)
    for index, layer in enumerate(weights.layers):
        np.testing.assert_array_equal(layer.qkv, tensors[f"{index}.qkv"])
        np.testing.assert_array_equal(layer.gate_up, tensors[f"{index}.gate_up"])
        np.testing.assert_array_equal(layer.attention_norm, tensors[f"{index}.attention_norm"])


def test_the_cache_is_made_once(small_gguf: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    load_weights(small_gguf, cache)
    (made,) = cache.glob("*.f32")
    before = made.stat()
    load_weights(small_gguf, cache)
    assert made.stat().st_mtime_ns == before.st_mtime_ns
    assert made.stat().st_ino == before.st_ino


def test_a_broken_cache_is_made_again(small_gguf: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    load_weights(small_gguf, cache)
    (made,) = cache.glob("*.f32")
    whole = made.read_bytes()
    made.write_bytes(whole[: len(whole) // 2])
    load_weights(small_gguf, cache)
    assert made.read_bytes() == whole
    assert not list(cache.glob("*.part"))


def test_a_cache_that_cannot_be_written_is_done_without(
    small_gguf: Path, tmp_path: Path, tensors: dict[str, Floats]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    _, weights = load_weights(small_gguf, blocked / "cache")
    np.testing.assert_array_equal(weights.embedding, tensors["embedding"])


def test_of_two_that_start_together_one_waits(small_gguf: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    load_weights(small_gguf, cache)
    (lock,) = cache.glob("*.lock")
    loaded = threading.Event()

    def second() -> None:
        load_weights(small_gguf, cache)
        loaded.set()

    with lock.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        thread = threading.Thread(target=second)
        thread.start()
        assert not loaded.wait(0.1)
    thread.join()
    assert loaded.is_set()


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(NotWeights, match="only 'llama'"):
        load_weights(path, tmp_path / "cache")


@pytest.mark.parametrize(
    ("given_home", "expected"), [("/var/cache/x", "/var/cache/x/arriero"), ("", "H/.cache/arriero")]
)
def test_the_cache_stands_where_the_desktop_standard_says(
    monkeypatch: pytest.MonkeyPatch, given_home: str, expected: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", given_home)
    monkeypatch.setenv("HOME", "H")
    assert cache_directory() == Path(expected)
