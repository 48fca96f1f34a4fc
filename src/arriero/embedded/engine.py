"""A model that answers prompts: prefill, then one token after the other until something ends it.

Runs in one worker thread and knows nothing of HTTP or asyncio. Between tokens, and between the
batches of a long prompt, it asks whether anybody still wants the answer.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np

from arriero.embedded.cache import Pool, Sequence
from arriero.embedded.convert import load_weights
from arriero.embedded.model import BATCH_TOKENS, Llama
from arriero.embedded.sampling import Options, make_generator, pick
from arriero.embedded.stops import StopScanner
from arriero.embedded.tokenizer import Detokenizer, Tokenizer
from arriero.embedded.weights import Floats, Header, Weights

CONTEXT_DEFAULT: Final = 4096  # what Ollama takes on a machine with less than 23 GiB of VRAM
POOL_TOKENS_MAX: Final = 4096

Cancelled = Callable[[], bool]


class Outcome(msgspec.Struct):
    """How an answer ended and what it cost; filled in while it is made. Times are seconds."""

    reason: Literal["stop", "length"] = "length"
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    prompt_s: float = 0.0
    completion_s: float = 0.0


class Engine:
    """One model with its tokeniser and its cached conversations."""

    def __init__(self, header: Header, weights: Weights, now_s: Callable[[], float]) -> None:
        self.header = header
        self.tokenizer = Tokenizer(header.vocabulary)
        self._model = Llama(weights)
        self._pool = Pool(header.hyper, POOL_TOKENS_MAX)
        self._now_s = now_s

    def context(self, options: Options) -> int:
        """Return the context length for a request: what it wants, at most what was trained."""
        return max(2, min(options.num_ctx or CONTEXT_DEFAULT, self.header.hyper.context_length))

    def forget(self) -> None:
        """Drop all cached conversations, as unloading the model does."""
        self._pool.clear()

    def generate(
        self, prompt: list[int], options: Options, outcome: Outcome, cancelled: Cancelled
    ) -> Iterator[str]:
        """Yield the answer in pieces of whole characters and fill in `outcome`.

        The prompt has at least one token and leaves room for one more in the context. When
        `cancelled` the answer just ends; what was computed stays cached.
        """
        context = self.context(options)
        assert 0 < len(prompt) < context
        sequence = self._pool.take(prompt)
        outcome.prompt_tokens, outcome.cached_tokens = len(prompt), len(sequence.tokens)
        begun_s = self._now_s()
        state = self._read(sequence, prompt[len(sequence.tokens) :], cancelled)
        prefilled_s = self._now_s()
        outcome.prompt_s = prefilled_s - begun_s
        if state is None:
            return
        scanner = StopScanner(options.stops)
        detokenizer = Detokenizer(self.tokenizer)
        for token in self._tokens(sequence, state, options, outcome):
            text = scanner.feed(detokenizer.feed(token))
            outcome.completion_s = self._now_s() - prefilled_s
            if text:
                yield text
            if scanner.found:
                outcome.reason = "stop"
            if scanner.found or cancelled():
                break
        if not scanner.found and (rest := scanner.flush()):
            yield rest

    def embed(self, tokens: list[int], cancelled: Cancelled) -> Floats | None:
        """Return the mean of the hidden states of `tokens`, of length 1; None when cancelled.

        SmolLM2 was not trained for embeddings: related texts come out nearer than unrelated
        ones, but do not build a search on it.
        """
        sequence = Sequence(self.header.hyper)
        total = np.zeros(self.header.hyper.embedding_length, dtype=np.float32)
        for batch in _batches(tokens):
            if cancelled():
                return None
            total += self._model.read(sequence, batch).sum(axis=0)
        return normalise(total)

    def _read(self, sequence: Sequence, tokens: list[int], cancelled: Cancelled) -> Floats | None:
        """Read a prompt in batches; return the last state, or None when cancelled."""
        state = None
        for batch in _batches(tokens):
            if cancelled():
                return None
            state = self._model.read(sequence, batch)[-1]
            self._pool.shrink()
        return state

    def _tokens(
        self, sequence: Sequence, state: Floats, options: Options, outcome: Outcome
    ) -> Iterator[int]:
        """Yield new tokens until the turn ends or a limit is reached."""
        chance = make_generator(options.seed)
        room = self.context(options) - len(sequence.tokens)
        limit = room if options.num_predict < 0 else min(options.num_predict, room)
        while outcome.completion_tokens < limit:
            token = pick(self._model.logits(state), sequence.tokens, options, chance)
            outcome.completion_tokens += 1
            if token in self.tokenizer.end_ids:
                outcome.reason = "stop"
                return
            yield token
            if outcome.completion_tokens < limit:
                state = self._model.read(sequence, [token])[-1]
                self._pool.shrink()


def load_engine(path: Path, now_s: Callable[[], float]) -> Engine:
    """Return an engine for a GGUF file; seconds at the first start, then a moment.

    `now_s` tells monotonic seconds; it is asked from the worker thread.
    """
    header, weights = load_weights(path)
    return Engine(header, weights, now_s)


def normalise(vector: Floats) -> Floats:
    """Return `vector` with length 1, or as it is when it has none."""
    length = np.linalg.norm(vector)
    unit: Floats = vector / length if length > 0 else vector
    return unit


def _batches(tokens: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(tokens), BATCH_TOKENS):
        yield tokens[start : start + BATCH_TOKENS]
