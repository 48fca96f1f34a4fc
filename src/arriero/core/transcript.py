"""What a client has received of one streamed answer, as far as going on with it elsewhere needs.

On the hot path it costs one list extension for each read: the chunks are kept as they are and
looked at later, a few hundred at a time, when their text is joined and what else they said is
noted. A short stream that ends well is never looked at.
"""

from arriero.wire.canonical import Chunk

CHARS_MAX = 1_000_000  # kept of one answer; a longer one cannot be resumed
CHUNKS_MAX = 512  # kept unread; then the older half is folded into text
# How many pieces in a row must be alike to say that the model loops. Ollama gives up such a
# generation, first after thirty equal tokens, later after a hundred, and old versions do so
# without a word.
LOOP_PIECES = 30


class Transcript:
    """One answer so far. `add` is told of everything that was sent."""

    __slots__ = (
        "_chars", "_chunks", "_noted", "_pieces", "_texts", "_thoughts", "called", "finished",
        "probable",
    )  # fmt: skip

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []
        self._noted = 0  # how many of them were looked at
        self._texts: list[str] = []  # each is the text of many chunks
        self._thoughts: list[str] = []
        self._pieces = 0  # in all that was looked at, thinking included
        self._chars = 0
        self.called = False  # a tool call was sent
        self.probable = False  # log probabilities were sent
        self.finished = False  # a finish reason was sent

    def add(self, chunks: list[Chunk]) -> None:
        """Note what was just sent. The chunks must not be changed any more."""
        kept = self._chunks
        kept += chunks
        if len(kept) > CHUNKS_MAX:
            self._fold()

    def look(self) -> None:
        """Take in all that was added; the attributes and `thoughts` are true after it."""
        for chunk in self._chunks[self._noted :]:
            self._note(chunk)
        self._noted = len(self._chunks)

    @property
    def too_long(self) -> bool:
        """Whether text was thrown away because there was too much of it."""
        return self._chars > CHARS_MAX

    @property
    def pieces(self) -> int:
        """How many pieces were sent, thinking included: about one for each token."""
        return self._pieces

    @property
    def thoughts(self) -> str:
        """The thinking that was sent before the text."""
        return "".join(self._thoughts)

    def text(self) -> str:
        """Return all text sent; of what is `too_long` not all is there."""
        return "".join([*self._texts, *self.tail()])

    def tail(self) -> list[str]:
        """Return the last pieces of text as they came, a few hundred at most."""
        return [chunk.content for chunk in self._chunks if chunk.content]

    def loops(self) -> bool:
        """Say whether the model repeats itself: it would do so anywhere."""
        last = [piece.strip() for piece in self.tail()[-LOOP_PIECES:]]
        return len(last) == LOOP_PIECES and len(set(last)) == 1

    def _fold(self) -> None:
        """Join the text of the older half."""
        self.look()
        cut = CHUNKS_MAX // 2
        self._texts.append("".join([chunk.content for chunk in self._chunks[:cut]]))
        del self._chunks[:cut]
        self._noted -= cut
        if self.too_long:
            self._texts.clear()
            self._thoughts.clear()

    def _note(self, chunk: Chunk) -> None:
        self._chars += len(chunk.content) + len(chunk.thinking)
        self._pieces += bool(chunk.content) + bool(chunk.thinking)
        if chunk.thinking:
            self._thoughts.append(chunk.thinking)
        if chunk.tool_calls:
            self.called = True
        if chunk.logprobs is not None:
            self.probable = True
        if chunk.finish_reason is not None:
            self.finished = True
