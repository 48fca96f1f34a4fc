"""How fast hosts read prompts and write answers with one model, learnt from what they report.

Theory. Ollama tells with each answer how many tokens it took how long. A host's speed is an average
of those in which the last few answers count most, weighted by time: many short answers must not
outweigh a long one. Hosts of about the same speed share a class (19 % wide for reading, 41 % for
writing), so that a decision looks at a handful of classes and not at every host. A host stays in
its class, or joins one there is, as long as it is not much nearer to another: equal hosts are never
measured quite equally, and the one that seems a little faster must not get all the work of a quiet
day.

A host that has not answered yet is taken for an average one, or for a slower one when the model
does not fit its video memory: layers that are left to the processor are read there.
"""

import math
from typing import Final

import msgspec

PREFILL_TPS: Final = 1000.0  # until anything was measured: a model of 8B on a good desktop card
DECODE_TPS: Final = 50.0
LOAD_S: Final = 10.0
# How many times slower a processor reads prompts than a graphics card: 10 to 50 in public tables of
# llama-bench. The lower end, because a host that is tried gets measured, and one that is not never.
OFFLOAD_FACTOR: Final = 10.0

_PROMPT_STEPS: Final = 4  # classes for each doubling
_ANSWER_STEPS: Final = 2  # fewer, because an answer takes long, and a little must not decide
_NEAR: Final = 0.75  # of a step: a host belongs to a class that is no farther away
_KEEP: Final = 0.8  # what is left of the earlier answers' weight after each new one
_PROMPT_TOKENS_MIN: Final = 64  # shorter prefills measure the overhead of a batch
_SECONDS_MIN: Final = 1e-4  # nothing is that fast: a duration that was not told
_TPS_MIN: Final = 0.01


class Speed(msgspec.Struct):
    """Decaying sums of tokens and seconds."""

    prompt_tokens: float = 0.0
    prompt_s: float = 0.0
    answer_tokens: float = 0.0
    answer_s: float = 0.0

    def add(
        self, prompt_tokens: float, prompt_s: float, answer_tokens: int, answer_s: float
    ) -> None:
        """Take one answer into account; what was too short to measure is left out."""
        if prompt_tokens >= _PROMPT_TOKENS_MIN and prompt_s > _SECONDS_MIN:
            self.prompt_tokens = self.prompt_tokens * _KEEP + prompt_tokens
            self.prompt_s = self.prompt_s * _KEEP + prompt_s
        if answer_tokens > 1 and answer_s > _SECONDS_MIN:
            self.answer_tokens = self.answer_tokens * _KEEP + answer_tokens
            self.answer_s = self.answer_s * _KEEP + answer_s

    @property
    def prefill_tps(self) -> float:
        """Prompt tokens a second, 0 if not measured."""
        return self.prompt_tokens / self.prompt_s if self.prompt_s else 0.0

    @property
    def decode_tps(self) -> float:
        """Answer tokens a second, 0 if not measured."""
        return self.answer_tokens / self.answer_s if self.answer_s else 0.0


class Pace(msgspec.Struct, gc=False):
    """A class of hosts: who is in it, and the seconds each token takes them."""

    hosts: int
    prompt_s: float
    answer_s: float


class Paces:
    """The speeds of one model's hosts; hosts are bits of a mask.

    `classes` has those of which anything is known, `usual` stands for all others.
    """

    __slots__ = ("_all", "_class_of", "_offloaded", "_speeds", "classes", "load_s", "usual")

    def __init__(self) -> None:
        self.classes: dict[tuple[int, int], Pace] = {}
        self.usual = Pace(-1, 1 / PREFILL_TPS, 1 / DECODE_TPS)
        self.load_s = LOAD_S
        self._all = Speed()
        self._speeds: dict[int, Speed] = {}
        self._class_of: dict[int, tuple[int, int]] = {}
        self._offloaded: dict[int, float] = {}  # the part that is not in video memory

    def enrol(self, bit: int, offloaded: float) -> None:
        """Note how much of the model (0 to 1) a host leaves to its processor."""
        if self._offloaded.get(bit, 0.0) != offloaded:
            self._offloaded[bit] = offloaded
            self._sort_in(bit)

    def measured(
        self, bit: int, prompt_tokens: float, prompt_s: float, answer_tokens: int, answer_s: float
    ) -> None:
        """Take an answer into account; `prompt_tokens` are those that were not cached."""
        speed = self._speeds.get(bit)
        if speed is None:
            speed = self._speeds[bit] = Speed()
        speed.add(prompt_tokens, prompt_s, answer_tokens, answer_s)
        self._all.add(prompt_tokens, prompt_s, answer_tokens, answer_s)
        self._sort_in(bit)
        prefill_tps = self._all.prefill_tps or PREFILL_TPS
        key = self._nearest(prefill_tps, self._all.decode_tps or DECODE_TPS)
        self.usual = Pace(-1, *_seconds(key))

    def loaded(self, seconds: float) -> None:
        """Take into account how long loading the model took somewhere."""
        self.load_s = self.load_s * _KEEP + seconds * (1 - _KEEP)

    def of(self, bit: int) -> Pace:
        """Return what is taken to be a host's pace."""
        key = self._class_of.get(bit)
        return self.usual if key is None else self.classes[key]

    def all(self, hosts: int) -> list[Pace]:
        """Return the paces of `hosts`, each with those it applies to."""
        found = []
        for pace in self.classes.values():
            alike = pace.hosts & hosts
            if alike:
                found.append(pace)
                hosts ^= alike
        if hosts:
            found.append(Pace(hosts, self.usual.prompt_s, self.usual.answer_s))
        return found

    def forget(self, bit: int) -> None:
        """Forget a host: it may be another machine now."""
        self._speeds.pop(bit, None)
        self._offloaded.pop(bit, None)
        key = self._class_of.pop(bit, None)
        if key is not None:
            self._leave(key, bit)

    def _sort_in(self, bit: int) -> None:
        speed = self._speeds.get(bit) or Speed()
        slower = 1 + self._offloaded.get(bit, 0.0) * (OFFLOAD_FACTOR - 1)
        prefill_tps = speed.prefill_tps or 1 / self.usual.prompt_s / slower
        decode_tps = speed.decode_tps or 1 / self.usual.answer_s / slower
        old = self._class_of.get(bit)
        key = self._nearest(prefill_tps, decode_tps, old)
        if old == key:
            return
        if old is not None:
            self._leave(old, bit)
        self._class_of[bit] = key
        pace = self.classes.get(key)
        if pace is None:
            pace = self.classes[key] = Pace(0, *_seconds(key))
        pace.hosts |= bit

    def _nearest(
        self, prefill_tps: float, decode_tps: float, old: tuple[int, int] | None = None
    ) -> tuple[int, int]:
        """Return the class of a speed: the old one, or one there is, if it is near enough."""
        at = _place(prefill_tps, _PROMPT_STEPS), _place(decode_tps, _ANSWER_STEPS)
        for key in (old, *self.classes):
            if key and abs(key[0] - at[0]) <= _NEAR and abs(key[1] - at[1]) <= _NEAR:
                return key
        return round(at[0]), round(at[1])

    def _leave(self, key: tuple[int, int], bit: int) -> None:
        pace = self.classes[key]
        pace.hosts ^= bit
        if not pace.hosts:
            del self.classes[key]


def _place(tps: float, steps: int) -> float:
    return steps * math.log2(max(tps, _TPS_MIN))


def _seconds(key: tuple[int, int]) -> tuple[float, float]:
    return 2 ** (-key[0] / _PROMPT_STEPS), 2 ** (-key[1] / _ANSWER_STEPS)
