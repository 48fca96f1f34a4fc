"""Requests as the simulator knows them: conversations of segments, each of so many tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from arriero.wire.canonical import Chat, Message, Role, Sampling
from benchmarks.fleet.specs import HostSpec, ModelSpec

CHARS_PER_TOKEN: Final = 4


@dataclass(frozen=True, eq=False)
class Segment:
    """A message: the same object is the same text, and no two objects have a text in common."""

    number: int
    role: Role
    tokens: int

    @cached_property
    def message(self) -> Message:
        """The message as the gateway sees it, of about the right length."""
        chars = self.tokens * CHARS_PER_TOKEN
        text = f"{self.number}."
        return Message(self.role, (text * (chars // len(text) + 1))[:chars])


def common_tokens(left: Sequence[Segment], right: Sequence[Segment]) -> int:
    """Return how many tokens two prompts begin with in common."""
    tokens = 0
    for mine, theirs in zip(left, right, strict=False):
        if mine is not theirs:
            break
        tokens += mine.tokens
    return tokens


def total_tokens(sequence: Sequence[Segment]) -> int:
    """Return the length of a prompt in tokens."""
    return sum(segment.tokens for segment in sequence)


@dataclass(eq=False)
class Turn:
    """One request: what is sent, what comes back, and how long after the last answer it is sent.

    `task` is what the client asks for by itself when the answer has come, and nobody waits for.
    """

    model: str
    prompt: tuple[Segment, ...]
    answer: Segment
    session: str
    user: str
    gap_s: float = 0.0
    background: bool = False
    task: "Turn | None" = None

    @property
    def chain(self) -> Iterator["Turn"]:
        """This request, and those that follow from it without a user."""
        turn: Turn | None = self
        while turn is not None:
            yield turn
            turn = turn.task

    @cached_property
    def prompt_tokens(self) -> int:
        """How long the prompt is."""
        return total_tokens(self.prompt)

    @cached_property
    def chat(self) -> Chat:
        """The request as the gateway decodes it."""
        messages = [segment.message for segment in self.prompt]
        return Chat(model=self.model, messages=messages, text_only=True, sampling=Sampling())


@dataclass(frozen=True)
class Session:
    """Turns one after the other: each is sent `gap_s` after the answer to the one before."""

    start_s: float
    turns: Sequence[Turn]


@dataclass(frozen=True)
class Outage:
    """A host's process dies and is back after a while, with nothing in its memory."""

    host: int
    start_s: float
    length_s: float


@dataclass(frozen=True)
class Trace:
    """A fleet and everything that happens to it from outside."""

    name: str
    hosts: tuple[HostSpec, ...]
    models: tuple[ModelSpec, ...]
    sessions: Sequence[Session]
    outages: Sequence[Outage] = field(default=())
    warm: bool = True  # every host starts with the first models that fit loaded

    @property
    def turns(self) -> int:
        """How many requests there are."""
        return sum(1 for session in self.sessions for turn in session.turns for _ in turn.chain)


def cold_seconds(turn: Turn, host: HostSpec, model: ModelSpec) -> float:
    """Return how long a request takes alone on a host that holds nothing of its prompt."""
    prefill_s = turn.prompt_tokens / host.prefill_tps
    return model.weight * (prefill_s + turn.answer.tokens / host.decode_tps)
