"""The forward pass of a Llama model on numpy.

Llama 2's shape (arXiv 2307.09288): pre-norm blocks with RMSNorm, rotary positions, grouped-query
attention and SwiGLU, no biases. The query and key matrices of a GGUF file have their rows
reordered by llama.cpp's converter so that each rotated pair stands side by side; a pair is then a
complex number and rotating it a complex multiplication.

All arrays are 32-bit floats with one row per token. A prompt is read in batches of rows, then one
row per new token; both ways compute the same figures up to rounding, which the tests hold.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from arriero.embedded.cache import Sequence
from arriero.embedded.weights import Floats, Layer, Weights

BATCH_TOKENS: Final = 128


class Llama:
    """A model that reads tokens into a `Sequence`; holds no state of any conversation itself."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.hyper = weights.hyper
        self._group = self.hyper.head_count // self.hyper.head_count_kv
        self._head_size = self.hyper.embedding_length // self.hyper.head_count
        self._rotations = _rotations(
            self.hyper.context_length, self.hyper.rope_dimension_count, self.hyper.rope_freq_base
        )

    def read(self, sequence: Sequence, tokens: list[int]) -> Floats:
        """Append `tokens` to `sequence`; return their hidden states after the last norm.

        The caller splits long prompts into batches of `BATCH_TOKENS`, and stays within the
        model's context length.
        """
        start, count = len(sequence.tokens), len(tokens)
        assert 0 < count <= self.hyper.context_length - start
        sequence.reserve(start + count)
        epsilon = self.hyper.layer_norm_rms_epsilon
        rotation = self._rotations[start : start + count, None, :]
        mask = _causal_mask(start, count) if count > 1 else None
        states = self.weights.embedding[tokens]
        for index, layer in enumerate(self.weights.layers):
            normed = rms_norm(states, layer.attention_norm, epsilon)
            query = self._remember(sequence, index, normed @ layer.qkv.T, rotation)
            mixed = self._attend(sequence, index, query, mask)
            states = states + mixed @ layer.attention_output.T
            states = states + feed_forward(layer, rms_norm(states, layer.ffn_norm, epsilon))
        sequence.tokens.extend(tokens)
        return rms_norm(states, self.weights.output_norm, epsilon)

    def logits(self, state: Floats) -> Floats:
        """Return the score of every token of the vocabulary to come after `state`, one row."""
        scores: Floats = self.weights.embedding @ state
        return scores

    def _remember(
        self, sequence: Sequence, index: int, qkv: Floats, rotation: npt.NDArray[np.complex64]
    ) -> Floats:
        """Store keys and values of the new tokens; return their queries, (tokens, heads, size)."""
        count = len(qkv)
        start = len(sequence.tokens)
        heads, heads_kv = self.hyper.head_count, self.hyper.head_count_kv
        rows = qkv.reshape(count, heads + 2 * heads_kv, self._head_size)
        turned = rotate(rows[:, : heads + heads_kv], rotation)
        new = slice(start, start + count)
        sequence.keys[index, :, new] = turned[:, heads:].swapaxes(0, 1)
        sequence.values[index, :, new] = rows[:, heads + heads_kv :].swapaxes(0, 1)
        return turned[:, :heads]

    def _attend(self, sequence: Sequence, index: int, query: Floats, mask: Floats | None) -> Floats:
        """Return what each new token gathers from all tokens up to itself, (tokens, embedding).

        Every `group` of query heads shares one key head, so queries are laid out as
        (key heads, group x tokens, size) and one product serves the group.
        """
        count, size = len(query), self._head_size
        heads_kv, group = self.hyper.head_count_kv, self._group
        total = len(sequence.tokens) + count
        keys = sequence.keys[index, :, :total]
        values = sequence.values[index, :, :total]
        grouped = query.reshape(count, heads_kv, group, size).transpose(1, 2, 0, 3)
        scores = grouped.reshape(heads_kv, group * count, size) @ keys.swapaxes(1, 2)
        scores *= np.float32(size**-0.5)
        if mask is not None:
            scores.reshape(heads_kv, group, count, total)[...] += mask
        mixed = softmax(scores) @ values
        return (
            mixed.reshape(heads_kv, group, count, size)
            .transpose(2, 0, 1, 3)
            .reshape(count, heads_kv * group * size)
        )


def rms_norm(states: Floats, scale: Floats, epsilon: float) -> Floats:
    """Return each row divided by its root mean square, times `scale` (arXiv 1910.07467)."""
    mean_square = np.mean(states * states, axis=-1, keepdims=True)
    normed: Floats = states * (scale / np.sqrt(mean_square + np.float32(epsilon)))
    return normed


def feed_forward(layer: Layer, states: Floats) -> Floats:
    """SwiGLU (arXiv 2002.05202): down(silu(gate) x up).

    The sigmoid is written with tanh, which cannot overflow.
    """
    gate, up = np.split(states @ layer.gate_up.T, 2, axis=-1)
    half = np.float32(0.5)
    gated = gate * (half * np.tanh(half * gate) + half) * up
    out: Floats = gated @ layer.down.T
    return out


def softmax(scores: Floats) -> Floats:
    """Return weights that sum to one along the last axis."""
    weights: Floats = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights


def rotate(rows: Floats, rotation: npt.NDArray[np.complex64]) -> Floats:
    """Turn every pair of neighbours by its angle (RoPE, arXiv 2104.09864)."""
    pairs = np.ascontiguousarray(rows).view(np.complex64)
    turned: Floats = (pairs * rotation).view(np.float32)
    return turned


def _rotations(positions: int, dimensions: int, base: float) -> npt.NDArray[np.complex64]:
    """Return exp(i * position * base^(-2j/dimensions)), a row for each position."""
    frequencies = base ** (-np.arange(0, dimensions, 2) / dimensions)
    angles = np.outer(np.arange(positions), frequencies)
    turns: npt.NDArray[np.complex64] = np.exp(1j * angles).astype(np.complex64)
    return turns


def _causal_mask(start: int, count: int) -> Floats:
    """Return 0 where a new token may look and minus infinity where it would see the future."""
    mask = np.zeros((count, start + count), dtype=np.float32)
    mask[:, start:] = np.triu(np.full((count, count), -np.inf, dtype=np.float32), 1)
    return mask
