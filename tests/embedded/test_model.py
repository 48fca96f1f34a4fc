import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.embedded.cache import Sequence
from arriero.embedded.model import Llama, feed_forward, rms_norm, rotate, softmax
from arriero.embedded.weights import Floats, Hyper, Layer, Weights

Doubles = npt.NDArray[np.float64]

TOKENS = [5, 17, 3, 200, 41, 41, 8, 99, 120, 7, 33, 250]


def naive_states(weights: Weights, tokens: list[int]) -> list[list[float]]:
    """The same model in double precision, one number at a time, from the papers' formulas."""
    rows: list[Doubles] = [weights.embedding[token].astype(np.float64) for token in tokens]
    for layer in weights.layers:
        normed = [_norm(row, layer.attention_norm, weights.hyper) for row in rows]
        mixed = _naive_attention(layer, normed, weights.hyper)
        rows = [
            row + layer.attention_output.astype(np.float64) @ gathered
            for row, gathered in zip(rows, mixed, strict=True)
        ]
        rows = [row + _naive_ffn(layer, row, weights.hyper) for row in rows]
    return [list(_norm(row, weights.output_norm, weights.hyper)) for row in rows]


def _norm(row: Doubles, scale: Floats, hyper: Hyper) -> Doubles:
    mean = sum(value * value for value in row) / len(row)
    return row / math.sqrt(mean + hyper.layer_norm_rms_epsilon) * scale


def _turned(vector: Doubles, position: int, hyper: Hyper) -> Doubles:
    out = np.empty(len(vector))
    for pair in range(len(vector) // 2):
        angle = position * hyper.rope_freq_base ** (-2 * pair / hyper.rope_dimension_count)
        left, right = vector[2 * pair], vector[2 * pair + 1]
        out[2 * pair] = left * math.cos(angle) - right * math.sin(angle)
        out[2 * pair + 1] = left * math.sin(angle) + right * math.cos(angle)
    return out


def _naive_attention(layer: Layer, rows: list[Doubles], hyper: Hyper) -> list[Doubles]:
    size = hyper.embedding_length // hyper.head_count
    heads, heads_kv = hyper.head_count, hyper.head_count_kv
    split = [(layer.qkv.astype(np.float64) @ row).reshape(-1, size) for row in rows]
    mixed = []
    for place in range(len(rows)):
        gathered = []
        for head in range(heads):
            shared = head * heads_kv // heads
            query = _turned(split[place][head], place, hyper)
            keys = [_turned(split[i][heads + shared], i, hyper) for i in range(place + 1)]
            scores = [math.exp(query @ key / math.sqrt(size)) for key in keys]
            values = [split[i][heads + heads_kv + shared] for i in range(place + 1)]
            total = sum(scores)
            gathered.append(sum(s / total * v for s, v in zip(scores, values, strict=True)))
        mixed.append(np.concatenate(gathered))
    return mixed


def _naive_ffn(layer: Layer, row: Doubles, hyper: Hyper) -> Doubles:
    both = layer.gate_up.astype(np.float64) @ _norm(row, layer.ffn_norm, hyper)
    gate, up = both[: len(both) // 2], both[len(both) // 2 :]
    out: Doubles = layer.down.astype(np.float64) @ (gate / (1 + np.exp(-gate)) * up)
    return out


def read_in_batches(weights: Weights, sizes: list[int]) -> Floats:
    model, sequence = Llama(weights), Sequence(weights.hyper)
    left, states = list(TOKENS), []
    for size in sizes:
        states.append(model.read(sequence, left[:size]))
        del left[:size]
    if left:
        states.append(model.read(sequence, left))
    assert sequence.tokens == TOKENS
    return np.concatenate(states)


def test_forward_pass_is_the_one_of_the_papers(weights: Weights) -> None:
    expected = np.array(naive_states(weights, TOKENS))
    np.testing.assert_allclose(read_in_batches(weights, [len(TOKENS)]), expected, atol=1e-4)


@given(sizes=st.lists(st.integers(1, 5), max_size=2))
def test_batches_of_any_size_compute_the_same(weights: Weights, sizes: list[int]) -> None:
    whole = read_in_batches(weights, [len(TOKENS)])
    np.testing.assert_allclose(read_in_batches(weights, sizes), whole, atol=1e-4)


def test_one_token_at_a_time_gives_the_logits_of_the_whole(weights: Weights) -> None:
    model = Llama(weights)
    whole = model.logits(read_in_batches(weights, [len(TOKENS)])[-1])
    single = model.logits(read_in_batches(weights, [1] * len(TOKENS))[-1])
    assert whole.shape == (weights.hyper.vocab_size,)
    np.testing.assert_allclose(single, whole, atol=1e-3)


def test_a_sequence_cut_back_goes_on_as_if_it_had_never_been_longer(weights: Weights) -> None:
    model, sequence = Llama(weights), Sequence(weights.hyper)
    model.read(sequence, [*TOKENS[:6], 77, 78, 79])
    sequence.truncate(6)
    again = model.read(sequence, TOKENS[6:])
    np.testing.assert_allclose(again, read_in_batches(weights, [12])[6:], atol=1e-4)


def test_reading_beyond_the_context_is_a_defect_of_the_caller(weights: Weights) -> None:
    with pytest.raises(AssertionError):
        Llama(weights).read(Sequence(weights.hyper), [1] * 257)


def test_softmax_survives_large_scores() -> None:
    shares = softmax(np.array([[1000.0, 1000.0, -np.inf]], dtype=np.float32))
    np.testing.assert_allclose(shares, [[0.5, 0.5, 0.0]])


def test_feed_forward_survives_large_gates(weights: Weights) -> None:
    states = np.full((1, weights.hyper.embedding_length), 1e4, dtype=np.float32)
    assert np.isfinite(feed_forward(weights.layers[0], states)).all()


def test_rotation_keeps_lengths_and_leaves_position_zero_alone(weights: Weights) -> None:
    rows = np.arange(16, dtype=np.float32).reshape(2, 1, 8)
    rotations = Llama(weights)._rotations[:2, None, :]
    turned = rotate(rows, rotations)
    np.testing.assert_allclose(turned[0], rows[0])
    assert not np.allclose(turned[1], rows[1])
    np.testing.assert_allclose(np.linalg.norm(turned[1]), np.linalg.norm(rows[1]), rtol=1e-5)


def test_rms_norm_of_a_constant_row_is_the_scale() -> None:
    scale = np.array([1.0, 2.0, 3.0], dtype=np.float32)
    normed = rms_norm(np.full((1, 3), 4.0, dtype=np.float32), scale, 0.0)
    np.testing.assert_allclose(normed, scale[None], rtol=1e-6)
