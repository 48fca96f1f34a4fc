"""Where a resumed stream goes on: what is told twice is swallowed, what was promised is kept.

A continuation is asked for from a safe place in the text, which may lie before its end
(`resume.safe_cut`). The model then tells the last words again, and the client must not see them
again. And a `stop` string that had begun when the stream broke has to end it still, although no
backend sees the whole of it.
"""

from collections.abc import Iterable

from arriero.wire.canonical import Chunk, Usage


class Diverged(ValueError):
    """The continuation does not fit what the client has; nothing of it was let through."""


class Suppressor:
    """Swallows `repeat` at the head of a text that comes in pieces, split anywhere.

    A `strict` one raises Diverged when the text begins differently; else what differs is let
    through, which is right for white space alone.
    """

    __slots__ = ("_rest", "_strict")

    def __init__(self, repeat: str, *, strict: bool) -> None:
        self._rest = repeat
        self._strict = strict

    @property
    def done(self) -> bool:
        """Whether nothing is left to be swallowed."""
        return not self._rest

    def feed(self, text: str) -> str:
        """Return what of `text` is new."""
        rest = self._rest
        if not rest:
            return text
        length = _common(rest, text)
        if length == min(len(rest), len(text)):
            self._rest = rest[length:]
            return text[length:]
        if self._strict:
            raise Diverged("the continuation begins with other words")
        self._rest = ""
        return text[length:]

    def end(self) -> None:
        """The text is over. Raises Diverged when it did not even come to what was told before."""
        if self._rest and self._strict:
            raise Diverged("the continuation ends before its beginning is over")


class OpenStops:
    """The `stop` strings that had begun when the stream broke; `found` once one is complete.

    Backends hold back what may be the beginning of a stop string, but not all of them do.
    """

    __slots__ = ("_held", "_rests", "found")

    def __init__(self, sent: str, stops: Iterable[str]) -> None:
        self._rests = [rest for stop in stops for rest in _rests(sent, stop)]
        self._held = ""
        self.found = False

    def feed(self, text: str) -> str:
        """Return what can be shown now; what may still complete a stop string is held back."""
        if not self._rests or self.found:
            return "" if self.found else text
        held = self._held + text
        self._held = ""
        if any(held.startswith(rest) for rest in self._rests):
            self.found = True
            return ""
        self._rests = [rest for rest in self._rests if rest.startswith(held)]
        if self._rests:
            self._held = held
            return ""
        return held

    def end(self) -> str:
        """Return what was held back when the text has ended."""
        held, self._held = self._held, ""
        self._rests = []
        return held


class Seam:
    """Makes of a continuation's chunks the rest of the stream, and of its usage the whole's.

    `kept` counts the tokens that were generated before and read again as part of the prompt.
    """

    __slots__ = ("_kept", "_stops", "_suppressor", "begun", "stopped")

    def __init__(self, suppressor: Suppressor, stops: OpenStops, kept: int) -> None:
        self._suppressor = suppressor
        self._stops = stops
        self._kept = kept
        self.begun = False  # something new has come
        self.stopped = False  # a stop string was completed: the backend need not go on

    def feed(self, chunks: list[Chunk]) -> list[Chunk]:
        """Return what is to be sent. Raises Diverged, with nothing let through before."""
        passed = []
        for chunk in chunks:
            if chunk.error is None:
                self._cut(chunk)
            passed.append(chunk)
            if self.stopped:
                break
        return passed

    def _cut(self, chunk: Chunk) -> None:
        """Cut the chunk to what is new."""
        if chunk.thinking and not self.begun:
            raise Diverged("the continuation begins to think")
        ends = chunk.finish_reason is not None or bool(chunk.tool_calls)
        text = self._stops.feed(self._suppressor.feed(chunk.content))
        if self._stops.found:
            self.stopped = True
            chunk.finish_reason, chunk.tool_calls = "stop", []
            chunk.usage = Usage(0, self._kept)  # the backend is left before it has counted
        elif ends:
            self._suppressor.end()
            text += self._stops.end()
            if chunk.usage is not None:
                chunk.usage = _whole(chunk.usage, self._kept)
        chunk.content = text
        self.begun = self.begun or bool(text) or ends


def _whole(usage: Usage, kept: int) -> Usage:
    """Return the counts as if the answer had come in one piece."""
    prompt = max(usage.prompt_tokens - kept, 0)
    return Usage(prompt, usage.completion_tokens + kept, min(usage.cached_tokens, prompt))


def _common(one: str, other: str) -> int:
    """Return the length of the common beginning."""
    length = min(len(one), len(other))
    if one[:length] == other[:length]:
        return length
    return next(at for at in range(length) if one[at] != other[at])


def _rests(sent: str, stop: str) -> list[str]:
    """Return what must come next for `stop` to be complete, for each way it may have begun."""
    return [
        stop[length:]
        for length in range(1, min(len(stop), len(sent) + 1))
        if sent.endswith(stop[:length])
    ]
