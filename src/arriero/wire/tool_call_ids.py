"""Ids for tool calls, where the backend gives none that OpenAI's clients expect."""

from arriero.wire.canonical import CanonicalRequest, Chat


class ToolCallIds:
    """Name the tool calls of one answer.

    Ids must differ within an answer and between the turns of a conversation, because a client
    answers calls by id. Without a seed the number of turns so far serves as one.
    """

    __slots__ = ("_prefix", "count")

    def __init__(self, request: CanonicalRequest, seed: str = "") -> None:
        turn = len(request.messages) if isinstance(request, Chat) else 0
        self._prefix = f"call_{seed or turn}_"
        self.count = 0  # calls named so far

    def name(self, given: str | None) -> str:
        """Return the id of the next call: the backend's own if it begins `call_`."""
        self.count += 1
        if given is not None and given.startswith("call_"):
            return given
        return f"{self._prefix}{self.count}"
