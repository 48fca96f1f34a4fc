"""Cut an answer at its stop strings, wherever the pieces of text happen to be split."""

from collections.abc import Sequence


class StopScanner:
    """Let text through up to the first stop string; `found` tells that it has come.

    Text that may be the beginning of a stop string is held back until that is decided.
    """

    __slots__ = ("_held", "_stops", "found")

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found = False

    def feed(self, text: str) -> str:
        """Return what can be shown now. After `found` nothing more comes."""
        if self.found:
            return ""
        text = self._held + text
        cut = self._first(text)
        if cut is None:
            cut = len(text) - self._undecided(text)
            self._held = text[cut:]
        else:
            self.found, self._held = True, ""
        return text[:cut]

    def flush(self) -> str:
        """Return what was held back, when the text has ended without a stop string."""
        held, self._held = self._held, ""
        return held

    def _first(self, text: str) -> int | None:
        """Return where the stop string begins that is complete first.

        Not the one that begins first: by then the other has already ended the answer when the
        text comes in smaller pieces, and pieces must make no difference.
        """
        found = [(text.find(stop) + len(stop), text.find(stop)) for stop in self._stops]
        return min((match for match in found if match[1] >= 0), default=(0, None))[1]

    def _undecided(self, text: str) -> int:
        """Return the length of the longest end of `text` that begins a stop string."""
        longest = max(map(len, self._stops), default=0)
        for length in range(min(longest - 1, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
