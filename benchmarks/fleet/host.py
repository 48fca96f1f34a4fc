"""A simulated Ollama host: slots, one GPU, prompt caches, memory for so many models.

What it imitates, and from where, is in docs/fleet-simulator.md. Time is an argument everywhere;
between two calls every running request advances at a constant rate.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from benchmarks.fleet.specs import (
    BATCH_COST,
    BATCH_TOKENS,
    VRAM_RECOVERY_S,
    HostSpec,
    ModelSpec,
)
from benchmarks.fleet.workload import Segment, Turn, common_tokens, total_tokens

NEVER: Final = float("inf")
_DONE: Final = 1e-6  # tokens: what floating point leaves over
# llama-server (`get_available_slot`, `server_prompt_cache::load`) takes the slot whose prompt has
# most in common with the new one, if that is more than a tenth of it, else the one used longest
# ago. In the latter case, or when more than half of the slot would be lost, it saves the slot's
# prompt to main memory, and looks there for a better one, of which a quarter must be of use.
_ALIKE_MIN: Final = 0.1
_KEEP_MIN: Final = 0.5
_USE_MIN: Final = 0.25


class Phase(Enum):
    """Where a request is on its host."""

    WAITING = 0
    PREFILL = 1
    DECODE = 2
    DONE = 3


@dataclass(eq=False)
class Job:
    """One request on one host."""

    turn: Turn
    sent_s: float
    phase: Phase = Phase.WAITING
    left: float = 0.0  # tokens of this phase
    cached_tokens: int = 0
    started_s: float = -1.0
    first_s: float = -1.0
    end_s: float = -1.0
    token: object = None  # the policy's own


@dataclass(eq=False)
class Slot:
    """A place for one request, with the keys and values of the last one."""

    held: tuple[Segment, ...] = ()
    job: Job | None = None
    used_s: float = 0.0


@dataclass(eq=False)
class Runner:
    """A loaded model: what Ollama starts one llama-server for."""

    model: ModelSpec
    slots: list[Slot]
    ram_tokens_max: int
    pool: int = 0
    waiting: deque[Job] = field(default_factory=deque)
    ram: OrderedDict[int, tuple[Segment, ...]] = field(default_factory=OrderedDict)
    used_s: float = 0.0
    _saved: int = 0

    @property
    def jobs(self) -> list[Job]:
        """The requests being worked on."""
        return [slot.job for slot in self.slots if slot.job is not None]

    @property
    def idle(self) -> bool:
        """Nothing is running or waiting."""
        return not self.waiting and not self.jobs

    def admit(self, now_s: float) -> None:
        """Give free slots to the requests that wait, first come first served."""
        while self.waiting:
            free = [slot for slot in self.slots if slot.job is None]
            if not free:
                return
            self._start(self.waiting.popleft(), free, now_s)

    def _start(self, job: Job, free: list[Slot], now_s: float) -> None:
        prompt, tokens = job.turn.prompt, job.turn.prompt_tokens
        slot = max(free, key=lambda slot: (common_tokens(slot.held, prompt), -slot.used_s))
        alike = common_tokens(slot.held, prompt) > _ALIKE_MIN * tokens
        if not alike:
            slot = min(free, key=lambda slot: slot.used_s)
        reuse = self._from_pool if self.pool else self._from_memory
        common = reuse(slot.held, prompt, alike=alike)
        # The last token of a prompt is always computed, because its logits are not kept.
        job.cached_tokens = min(common, tokens - 1)
        job.phase, job.left, job.started_s = Phase.PREFILL, tokens - job.cached_tokens, now_s
        slot.job, slot.held, slot.used_s = job, (*prompt, job.turn.answer), now_s

    def _from_memory(
        self, held: tuple[Segment, ...], prompt: Sequence[Segment], *, alike: bool
    ) -> int:
        """Return what of a prompt need not be read, as llama-server does it."""
        common = common_tokens(held, prompt)
        if self.ram_tokens_max and held:
            kept = common / total_tokens(held)
            if not alike or kept < _KEEP_MIN:
                self._save(held)
                common = self._restored(prompt, kept, common)
                self._make_room()
        return common

    def _from_pool(
        self, held: tuple[Segment, ...], prompt: Sequence[Segment], *, alike: bool
    ) -> int:
        """Return the same as our embedded servers do it (`arriero.embedded.cache.Pool`).

        Of all that is kept the longest beginning is taken, and copied if more would be lost.
        """
        del alike
        key, best = 0, held
        for number, other in self.ram.items():
            if common_tokens(other, prompt) > common_tokens(best, prompt):
                key, best = number, other
        common = common_tokens(best, prompt)
        overwritten = 2 * common >= total_tokens(best)
        if held and (key or not overwritten):
            self._saved += 1
            self.ram[self._saved] = held
        if key and overwritten:
            del self.ram[key]
        while len(self.ram) >= self.pool:
            self.ram.popitem(last=False)
        self._make_room()
        return common

    def _save(self, held: tuple[Segment, ...]) -> None:
        """Keep what a slot is about to lose; beginnings of it need not be kept beside it."""
        length = total_tokens(held)
        for number, other in list(self.ram.items()):
            common = common_tokens(held, other)
            if common == length:
                return
            if common == total_tokens(other):
                del self.ram[number]
        self._saved += 1
        self.ram[self._saved] = held

    def _restored(self, prompt: Sequence[Segment], kept: float, common: int) -> int:
        """Move a prompt back into the slot, if one suits better; return what is in common then.

        It must be better than the slot's own, and than those looked at before, in both: how much of
        it is of use (`kept`), and how much of the new prompt it spares.
        """
        key = 0
        for number, held in self.ram.items():
            its_common = common_tokens(held, prompt)
            its_kept = its_common / total_tokens(held)
            if its_kept >= _USE_MIN and its_kept > kept and its_common > common:
                key, kept, common = number, its_kept, its_common
        if key:
            del self.ram[key]
        return common

    def _make_room(self) -> None:
        held_tokens = sum(total_tokens(held) for held in self.ram.values())
        while len(self.ram) > 1 and held_tokens > self.ram_tokens_max:
            held_tokens -= total_tokens(self.ram.popitem(last=False)[1])

    def finish(self, job: Job, now_s: float) -> None:
        """Free a request's slot."""
        slot = next(slot for slot in self.slots if slot.job is job)
        slot.job, slot.used_s = None, now_s
        self.used_s = now_s


class Host:
    """One machine. `tick` makes happen what is due; `next_s` says when that will be."""

    def __init__(self, spec: HostSpec, models: Sequence[ModelSpec]) -> None:
        self.spec = spec
        self.models = {model.name: model for model in models}
        self.runners: dict[str, Runner] = {}
        self.pending: dict[str, deque[Job]] = {}  # by models that are not loaded
        self.loads: deque[str] = deque()  # the first is being loaded, or waits for memory
        self.loaded_s = NEVER  # when the first is ready
        self.at_s = 0.0
        self.loads_made = 0
        self.down = False

    def install(self, model: ModelSpec) -> None:
        """Load a model at once, before the run."""
        ram = model.cache_tokens if self.spec.ram_cache else 0
        slots = [Slot() for _ in range(self.spec.slots)]
        self.runners[model.name] = Runner(model, slots, ram, self.spec.pool)

    @property
    def free_bytes(self) -> float:
        """How much memory no model takes."""
        return self.spec.vram_bytes - sum(
            runner.model.size_bytes for runner in self.runners.values()
        )

    def submit(self, job: Job, now_s: float) -> None:
        """Take a request; it waits here if it cannot be worked on."""
        assert not self.down
        self._advance(now_s)
        runner = self.runners.get(job.turn.model)
        if runner is not None:
            runner.waiting.append(job)
            runner.admit(now_s)
            return
        model = job.turn.model
        self.pending.setdefault(model, deque()).append(job)
        if model not in self.loads:
            self.loads.append(model)
            self._load(now_s)

    def crash(self) -> list[Job]:
        """Lose everything; return the requests that were here."""
        lost = [job for queue in self.pending.values() for job in queue]
        for runner in self.runners.values():
            lost += [*runner.jobs, *runner.waiting]
        self.runners.clear()
        self.pending.clear()
        self.loads.clear()
        self.loaded_s = NEVER
        self.down = True
        return lost

    def restart(self, now_s: float) -> None:
        """Come back, empty."""
        self.down = False
        self.at_s = now_s

    def next_s(self) -> float:
        """Return when something happens next if nobody sends anything; `NEVER`: nothing."""
        soonest = self.loaded_s
        for job, rate in self._rates():
            soonest = min(soonest, self.at_s + job.left / rate)
        return soonest

    def tick(self, now_s: float) -> tuple[list[Job], list[Job]]:
        """Advance to `now_s`; return the requests that have their first token, and the ended."""
        self._advance(now_s)
        first, ended = [], []
        for runner in self.runners.values():
            for job in runner.jobs:
                if job.left > _DONE:
                    continue
                if job.phase is Phase.PREFILL:
                    job.phase, job.left, job.first_s = Phase.DECODE, job.turn.answer.tokens, now_s
                    first.append(job)
                else:
                    job.phase, job.end_s = Phase.DONE, now_s
                    runner.finish(job, now_s)
                    ended.append(job)
            runner.admit(now_s)
        if now_s >= self.loaded_s:
            self._loaded(now_s)
        elif self.loads and self.loaded_s == NEVER:
            self._load(now_s)
        return first, ended

    def _advance(self, now_s: float) -> None:
        passed_s = now_s - self.at_s
        if passed_s > 0:
            for job, rate in self._rates():
                job.left -= rate * passed_s
        self.at_s = now_s

    def _rates(self) -> list[tuple[Job, float]]:
        """Return the requests that advance, with their tokens a second.

        Several models share the GPU's time. Within one, prompts are read one after the other, and
        meanwhile answers advance by a token a batch.
        """
        busy = [runner for runner in self.runners.values() if runner.jobs]
        rates = []
        for runner in busy:
            share = 1 / (len(busy) * runner.model.weight)
            jobs = runner.jobs
            prompts = [job for job in jobs if job.phase is Phase.PREFILL]
            answers = [job for job in jobs if job.phase is Phase.DECODE]
            rate = self.spec.decode_tps * share / (1 + BATCH_COST * (len(answers) - 1))
            if prompts:
                prefill = self.spec.prefill_tps * share
                rates.append((min(prompts, key=lambda job: job.started_s), prefill))
                rate = min(rate, prefill / BATCH_TOKENS)
            rates += [(job, rate) for job in answers]
        return rates

    def _load(self, now_s: float) -> None:
        """Make room for the first model in line and begin to load it, if that is possible."""
        if self.loaded_s != NEVER or not self.loads:
            return
        model = self.models[self.loads[0]]
        delay_s = 0.0
        while self.free_bytes < model.size_bytes:
            idle = [runner for runner in self.runners.values() if runner.idle]
            if not idle:
                return
            victim = min(idle, key=lambda runner: runner.used_s)
            del self.runners[victim.model.name]
            delay_s = VRAM_RECOVERY_S
        self.loads_made += 1
        self.loaded_s = now_s + delay_s + model.load_s

    def _loaded(self, now_s: float) -> None:
        model = self.models[self.loads.popleft()]
        self.loaded_s = NEVER
        self.install(model)
        runner = self.runners[model.name]
        runner.used_s = now_s
        runner.waiting.extend(self.pending.pop(model.name, ()))
        runner.admit(now_s)
        self._load(now_s)
