"""Keys and values of conversations, kept so that a follow-up turn computes only what is new.

The pool is what llama-server's slots and its prompt cache are to Ollama, in small: a request
takes the sequence that shares the longest prefix with its prompt, cuts it back to that prefix,
and works on from there.
"""

from collections.abc import Sequence as Tokens
from typing import Final

import numpy as np

from arriero.embedded.weights import Floats, Hyper

CAPACITY_MIN: Final = 256
SEQUENCES_MAX: Final = 4


class Sequence:
    """The tokens a model has read so far, with their keys and values for every layer."""

    __slots__ = ("_shape", "keys", "tokens", "values")

    def __init__(self, hyper: Hyper) -> None:
        head_size = hyper.embedding_length // hyper.head_count
        self._shape = (hyper.block_count, hyper.head_count_kv, head_size)
        self.tokens: list[int] = []
        self.keys = self._empty(CAPACITY_MIN)
        self.values = self._empty(CAPACITY_MIN)

    def __repr__(self) -> str:
        return f"<Sequence {len(self.tokens)} tokens of {self.capacity}>"

    @property
    def capacity(self) -> int:
        """How many tokens fit before the arrays have to grow."""
        return int(self.keys.shape[2])

    def reserve(self, count: int) -> None:
        """Make room for `count` tokens in all, at least doubling what there is."""
        if count > self.capacity:
            self.keys = self._grown(self.keys, max(count, 2 * self.capacity))
            self.values = self._grown(self.values, max(count, 2 * self.values.shape[2]))

    def truncate(self, count: int) -> None:
        """Forget all but the first `count` tokens."""
        del self.tokens[count:]

    def fork(self, hyper: Hyper, count: int) -> "Sequence":
        """Return a new sequence that begins with the first `count` tokens of this one."""
        other = Sequence(hyper)
        other.reserve(count)
        other.tokens = self.tokens[:count]
        other.keys[:, :, :count] = self.keys[:, :, :count]
        other.values[:, :, :count] = self.values[:, :, :count]
        return other

    def _grown(self, old: Floats, capacity: int) -> Floats:
        new = self._empty(capacity)
        count = len(self.tokens)
        new[:, :, :count] = old[:, :, :count]
        return new

    def _empty(self, capacity: int) -> Floats:
        layers, heads, head_size = self._shape
        return np.zeros((layers, heads, capacity, head_size), dtype=np.float32)


def common_prefix(left: Tokens[int], right: Tokens[int]) -> int:
    """Return how many tokens both begin with."""
    count = 0
    for mine, theirs in zip(left, right, strict=False):
        if mine != theirs:
            break
        count += 1
    return count


class Pool:
    """The sequences that are kept, the most recently used one last.

    Bounded twice: `sequences_max` of them, and `tokens_max` tokens of capacity in all, for each
    token of SmolLM2 takes 46 KB. What is in use is never dropped, however large it grows.
    """

    def __init__(self, hyper: Hyper, tokens_max: int, sequences_max: int = SEQUENCES_MAX) -> None:
        self._hyper = hyper
        self._tokens_max = tokens_max
        self._sequences_max = sequences_max
        self.sequences: list[Sequence] = []

    def take(self, prompt: Tokens[int]) -> Sequence:
        """Return a sequence holding a prefix of `prompt`, but never the whole of it.

        The last token is always left to compute, because its logits are not kept. A sequence
        that would lose more than it shares is left alone and its shared head is copied, so that
        two conversations with the same system message do not evict each other.
        """
        best, shared = None, 0
        for sequence in self.sequences:
            count = min(common_prefix(sequence.tokens, prompt), len(prompt) - 1)
            if count >= shared:
                best, shared = sequence, count
        if best is None or not shared:
            chosen = Sequence(self._hyper)
        elif 2 * shared >= len(best.tokens):
            self.sequences.remove(best)
            best.truncate(shared)
            chosen = best
        else:
            chosen = best.fork(self._hyper, shared)
        self.sequences.append(chosen)
        self.shrink()
        return chosen

    def shrink(self) -> None:
        """Drop the least recently used sequences until both bounds hold; call it after growth."""
        while len(self.sequences) > 1 and self._over():
            del self.sequences[0]

    def clear(self) -> None:
        """Drop everything, as unloading the model does."""
        self.sequences.clear()

    def _over(self) -> bool:
        held = sum(sequence.capacity for sequence in self.sequences)
        return len(self.sequences) > self._sequences_max or held > self._tokens_max
