"""What a client has received of one streamed answer, as far as going on with it elsewhere needs.

It is written for every chunk of every stream and read only when one breaks. So the pieces of text
are kept as they are and joined a few hundred at a time, and nothing else is done to them.
"""

from arriero.wire.canonical import Chunk

CHARS_MAX = 1_000_000  # kept of one answer; a longer one cannot be resumed
PIECES_MAX = 256  # kept apart; then the older half is joined
# How many pieces in a row must be alike to say that the model loops. Ollama gives up such a
# generation, first after thirty equal tokens, later after a hundred, and old versions do so
# without a word.
LOOP_PIECES = 30


class Transcript:
    """One answer so far. `add` is told of everything that was sent."""

    __slots__ = ("_chars", "_joined", "_pieces", "_tail", "_thoughts", "called", "finished", "lost")

    def __init__(self) -> None:
        self._tail: list[str] = []
        self._joined: list[str] = []  # each is the text of many pieces
        self._pieces = 0  # of what was joined and thought
        self._chars = 0  # of the same
        self._thoughts: list[str] = []
        self.called = False  # a tool call was sent
        self.finished = False  # a finish reason was sent
        self.lost = False  # text was thrown away because there was too much of it

    def add(self, chunks: list[Chunk]) -> None:
        """Note what is sent."""
        tail = self._tail
        for chunk in chunks:
            tail.append(chunk.content)
            if chunk.thinking or chunk.tool_calls:
                self._note(chunk)
        if chunks and chunks[-1].finish_reason is not None:
            self.finished = True
        if len(tail) > PIECES_MAX:
            self._fold()

    @property
    def pieces(self) -> int:
        """How many pieces were sent, thinking included: about one for each token."""
        return self._pieces + len(self.tail())

    @property
    def thoughts(self) -> str:
        """The thinking that was sent before the text."""
        return "".join(self._thoughts)

    def text(self) -> str:
        """Return all text sent; of what was `lost` not all is there."""
        return "".join([*self._joined, *self._tail])

    def tail(self) -> list[str]:
        """Return the last pieces of text as they came, a few hundred at most."""
        return [piece for piece in self._tail if piece]

    def loops(self) -> bool:
        """Say whether the model repeats itself: it would do so anywhere."""
        last = [piece.strip() for piece in self.tail()[-LOOP_PIECES:]]
        return len(last) == LOOP_PIECES and len(set(last)) == 1

    def _note(self, chunk: Chunk) -> None:
        """Take in what is no text."""
        self.called = self.called or bool(chunk.tool_calls)
        if chunk.thinking:
            self._thoughts.append(chunk.thinking)
            self._pieces += 1
            self._keep(len(chunk.thinking))

    def _fold(self) -> None:
        """Join the older half."""
        tail = self._tail
        old = tail[: PIECES_MAX // 2]
        del tail[: PIECES_MAX // 2]
        self._pieces += len(old) - old.count("")
        text = "".join(old)
        self._joined.append(text)
        self._keep(len(text))

    def _keep(self, chars: int) -> None:
        self._chars += chars
        if self._chars > CHARS_MAX:
            self.lost = True
            self._joined.clear()
            self._thoughts.clear()
