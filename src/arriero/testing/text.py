"""Text that looks written and is a function of its seed: the same question, the same answer.

That is what makes a resumed stream comparable with an undisturbed one, character by character.
A "token" here is a word with its leading space, a run of white space, or one other character.
"""

import hashlib
import re
from typing import Final

WORDS_MIN: Final = 24
WORDS_SPREAD: Final = 32
WORDS_MAX: Final = 20_000
_SENTENCE_WORDS: Final = 9

_TOKEN = re.compile(r" ?\w{1,12}|\s+|[^\w\s]")
_ASKED_WORDS = re.compile(r"\b(\d{1,5}) words\b")
_WORDS: Final = (
    "the a one every old young quiet steep narrow early patient heavy small warm red "
    "driver llama mule path valley bridge river market village saddle bell rope blanket fire "
    "crosses carries follows finds leaves reaches watches feeds loads counts remembers "
    "slowly again together before after beside under along without toward morning evening "
    "stone grass salt wool maize snow wind water bread and so then where because"
)
_LEXICON: Final = _WORDS.split()


def tokens(text: str) -> list[str]:
    """Cut text into tokens; joined they are the text again."""
    return _TOKEN.findall(text)


def prose(seed: str, words: int) -> str:
    """Return sentences of `words` words in all, determined by `seed`."""
    words = min(words, WORDS_MAX)
    picks = hashlib.shake_128(seed.encode()).digest(words)
    chosen = [_LEXICON[pick % len(_LEXICON)] for pick in picks]
    sentences = [
        " ".join(chosen[start : start + _SENTENCE_WORDS]).capitalize() + "."
        for start in range(0, words, _SENTENCE_WORDS)
    ]
    return " ".join(sentences)


def answer_words(question: str) -> int:
    """Return how long an answer is: "... in 200 words" is obeyed, else it follows the question."""
    asked = _ASKED_WORDS.search(question)
    if asked:
        return int(asked.group(1))
    return WORDS_MIN + hashlib.sha256(question.encode()).digest()[0] % WORDS_SPREAD


def unit_vector(seed: str, dimensions: int) -> list[float]:
    """Return a vector of length 1, determined by `seed`."""
    raw = hashlib.shake_128(seed.encode()).digest(2 * dimensions)
    values = [
        int.from_bytes(raw[at : at + 2], "big") / 32767.5 - 1.0 for at in range(0, len(raw), 2)
    ]
    return normalise(values)


def normalise(values: list[float]) -> list[float]:
    """Scale to length 1 (the zero vector stays)."""
    norm = max(sum(value * value for value in values) ** 0.5, 1e-12)
    return [round(value / norm, 8) for value in values]
