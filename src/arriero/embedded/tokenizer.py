"""Text to tokens and back, from the tables in the GGUF metadata.

Byte-level BPE as GPT-2 has it, after splitting off every digit: llama.cpp's pre-tokeniser
`smollm`. Markers such as `<|im_start|>` are recognised in any text, as Ollama does.
"""

import codecs
from typing import Final

from tokenizers import AddedToken, models, pre_tokenizers
from tokenizers import Tokenizer as Bpe

from arriero.embedded.weights import Vocabulary

# GPT-2 writes each byte as one printable character: printable Latin-1 as itself, the 68 others
# as the characters from 256 on, in order.
_PRINTABLE: Final = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS: Final = [byte for byte in range(256) if byte not in _PRINTABLE]
BYTE_OF: Final = {chr(byte): byte for byte in _PRINTABLE} | {
    chr(256 + index): byte for index, byte in enumerate(_OTHERS)
}


class Tokenizer:
    """One vocabulary. `end_ids` are the tokens that end a turn."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._bpe = _build(vocabulary)
        self._control = frozenset(vocabulary.control)
        self._texts = vocabulary.tokens
        self.end_ids = frozenset(vocabulary.eos_ids)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of `text`; lone surrogates count as replacement characters."""
        sound = text.encode("utf-8", "replace").decode()
        ids: list[int] = self._bpe.encode(sound, add_special_tokens=False).ids
        return ids

    def piece(self, token: int) -> bytes:
        """Return the bytes of one token: nothing for a marker, perhaps half a character."""
        if token in self._control:
            return b""
        return bytes(BYTE_OF[character] for character in self._texts[token])

    def decode(self, tokens: list[int]) -> str:
        """Return the text of `tokens`."""
        return b"".join(map(self.piece, tokens)).decode("utf-8", "replace")


class Detokenizer:
    """Text out of a growing list of tokens; a character comes when its last byte has come."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """Return the characters that `token` completes, possibly none."""
        return self._decoder.decode(self._tokenizer.piece(token))


def _build(vocabulary: Vocabulary) -> Bpe:
    """Make the BPE of the `tokenizers` library from the tables."""
    ids = {text: index for index, text in enumerate(vocabulary.tokens)}
    merges = [_pair(merge) for merge in vocabulary.merges]
    bpe = Bpe(models.BPE(vocab=ids, merges=merges))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    markers = [vocabulary.tokens[index] for index in vocabulary.control]
    bpe.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in markers])
    return bpe


def _pair(merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    return left, right
