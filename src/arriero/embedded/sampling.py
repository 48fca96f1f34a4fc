"""How the next token is drawn from the scores: pure functions, and Ollama's option names.

The order is llama.cpp's: penalties, top_k, top_p, min_p, and the temperature last, so that the
cuts see the model's own distribution. A temperature of 0 takes the best token and nothing else
matters but the penalties.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
import numpy as np
import numpy.typing as npt

from arriero.embedded.weights import Floats

GREEDY_BELOW: Final = 1e-4  # a temperature that leaves no choice, and would overflow


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Ollama's `options` as far as they mean something here; unknown ones are ignored, as there.

    `repeat_last_n` of -1 means the whole context, `num_predict` below 0 means no limit but the
    context, `seed` below 0 means a different draw each time.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    repeat_last_n: int = 64
    repeat_penalty: Annotated[float, msgspec.Meta(gt=0)] = 1.1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = -1
    num_predict: int = -1
    num_ctx: int | None = None
    num_keep: int = 4
    stop: list[str] | str = msgspec.field(default_factory=list)

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings that can ever match."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop
        return tuple(text for text in given if text)


def make_generator(seed: int) -> np.random.Generator:
    """Return the source of chance for one answer."""
    return np.random.default_rng(seed if seed >= 0 else None)


def pick(
    scores: Floats, history: Sequence[int], options: Options, chance: np.random.Generator
) -> int:
    """Return the next token, given the scores and all tokens so far (prompt and answer)."""
    penalised = penalise(scores, history, options)
    if options.temperature < GREEDY_BELOW:
        return int(penalised.argmax())
    ids = keep_top_k(penalised, options.top_k)
    ids = keep_probable(ids, penalised[ids], options)
    shares = _shares(penalised[ids] / np.float32(options.temperature))
    place = int(np.searchsorted(np.cumsum(shares), chance.random(), side="right"))
    return int(ids[min(place, len(ids) - 1)])


def penalise(scores: Floats, history: Sequence[int], options: Options) -> Floats:
    """Return the scores with recently used tokens made less likely; the input stays as it is.

    `repeat_penalty` divides a positive score and multiplies a negative one (arXiv 1909.05858),
    the two others are subtracted, once for presence and once for each use.
    """
    recent = Counter(_window(history, options.repeat_last_n))
    flat = options.presence_penalty == 0 and options.frequency_penalty == 0
    if not recent or (flat and options.repeat_penalty == 1):
        return scores
    ids = np.fromiter(recent.keys(), dtype=np.intp)
    uses = np.fromiter(recent.values(), dtype=np.float32)
    hit = scores[ids]
    penalty = np.float32(options.repeat_penalty)
    hit = np.where(hit > 0, hit / penalty, hit * penalty)
    hit -= uses * np.float32(options.frequency_penalty) + np.float32(options.presence_penalty)
    out = scores.copy()
    out[ids] = hit
    return out


def keep_top_k(scores: Floats, top_k: int) -> npt.NDArray[np.intp]:
    """Return the ids of the `top_k` best scores, best first; all of them for 0 and below."""
    if 0 < top_k < len(scores):
        ids = np.argpartition(scores, -top_k)[-top_k:]
    else:
        ids = np.arange(len(scores))
    ordered: npt.NDArray[np.intp] = ids[np.argsort(-scores[ids], kind="stable")]
    return ordered


def keep_probable(
    ids: npt.NDArray[np.intp], scores: Floats, options: Options
) -> npt.NDArray[np.intp]:
    """Cut a list of ids, best first, by `top_p` and then by `min_p`; the best always stays."""
    shares = _shares(scores)
    keep = len(ids)
    if options.top_p < 1:
        keep = int(np.searchsorted(np.cumsum(shares), options.top_p, side="left")) + 1
    if options.min_p > 0:
        keep = min(keep, int(np.count_nonzero(shares >= options.min_p * shares[0])))
    return ids[: max(keep, 1)]


def _window(history: Sequence[int], last_n: int) -> Sequence[int]:
    if last_n == 0:
        return ()
    return history if last_n < 0 else history[-last_n:]


def _shares(scores: Floats) -> npt.NDArray[np.float64]:
    weights = np.exp(scores.astype(np.float64) - float(scores.max()))
    shares: npt.NDArray[np.float64] = weights / weights.sum()
    return shares
