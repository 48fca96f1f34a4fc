"""Which models are loaded, who waits for a load, and who may generate.

As server/sched.go has it: a request for a loaded model with equal load-time options attaches to
its runner at once, whatever the queue; every other request waits for its turn to load. Loads are
strictly one after the other, the one in front holds up those behind it. A request that goes away
during its load aborts it. A runner unloads when it has been idle for its keep-alive.

Inside a runner there are `num_parallel` slots and a queue without bound (`OLLAMA_MAX_QUEUE`
does not count there, ollama#7758).
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from arriero.testing.clock import FOREVER_S, LoopClock
from arriero.testing.ollama.models import SimModel
from arriero.testing.ollama.settings import Settings
from arriero.testing.stats import ModelStats, Stats

# server/sched.go: architectures that get one slot whatever OLLAMA_NUM_PARALLEL says.
SINGLE_SLOT_FAMILIES: Final = frozenset(
    [
        "mllama",
        "qwen3vl",
        "qwen3vlmoe",
        "qwen35",
        "qwen35moe",
        "qwen3next",
        "lfm2",
        "lfm2moe",
        "nemotron_h",
        "nemotron_h_moe",
        "nemotron_h_omni",
    ]
)

LoadOptions = Mapping[str, Any]


class QueueFull(Exception):
    """`max_queue` requests already wait for a load."""


class Slot:
    """One sequence of a runner; remembers the tokens in its cache."""

    __slots__ = ("cached",)

    def __init__(self) -> None:
        self.cached: list[str] = []

    def common_prefix(self, tokens: list[str]) -> int:
        """Return how many leading tokens need no prefill."""
        common = 0
        for ours, theirs in zip(self.cached, tokens, strict=False):
            if ours != theirs:
                break
            common += 1
        return common


class Runner:
    """A loaded model."""

    def __init__(
        self, model: SimModel, options: LoadOptions, slots: int, stats: ModelStats
    ) -> None:
        self.model = model
        self.options = options
        self.stats = stats
        self.keep_alive_s = 0.0
        self.expires_unix_s = 0.0
        self.users = 0
        self.dead = False  # its process died; it stays listed until somebody asks for it
        self.timer: asyncio.TimerHandle | None = None
        self.gone = asyncio.Event()
        self._free = [Slot() for _ in range(slots)]
        self._permits = asyncio.Semaphore(slots)

    def __repr__(self) -> str:
        return f"<Runner {self.model.name} num_ctx={self.context} users={self.users}>"

    @property
    def context(self) -> int:
        """The context length it was loaded with."""
        return int(self.options["num_ctx"])

    @asynccontextmanager
    async def slot(self, prompt: list[str]) -> AsyncIterator[Slot]:
        """Wait for a free slot, first come first served; prefer the one that knows the prompt."""
        if self._permits.locked():
            with self.stats.waiting:
                await self._permits.acquire()
        else:
            await self._permits.acquire()
        slot = max(self._free, key=lambda free: free.common_prefix(prompt))
        self._free.remove(slot)
        try:
            with self.stats.running:
                yield slot
        finally:
            self._free.append(slot)
            self._permits.release()


class Scheduler:
    """The runners of one host."""

    def __init__(self, settings: Settings, stats: Stats) -> None:
        self._settings = settings
        self._stats = stats
        self._clock = LoopClock()
        self._runners: dict[str, Runner] = {}
        self._loading = asyncio.Lock()
        self._waiting = 0

    def loaded(self) -> list[Runner]:
        """Return the loaded models, the one that stays longest first; one still loading is not."""
        return sorted(self._runners.values(), key=lambda runner: -runner.expires_unix_s)

    def hold(self, model: SimModel, options: LoadOptions) -> None:
        """Have a model in memory without a load, until somebody's request sets its keep-alive."""
        stats = self._stats.of(model.ref.short)
        runner = self._runners[model.ref.key] = Runner(model, options, self._slots(model), stats)
        runner.keep_alive_s = self._settings.keep_alive_s
        self._expires_after(runner, runner.keep_alive_s)

    @asynccontextmanager
    async def runner(
        self, model: SimModel, options: LoadOptions, keep_alive_s: float | None
    ) -> AsyncIterator[Runner]:
        """Give a loaded model for the time of one request, loading it first when needed.

        Raises QueueFull.
        """
        runner = self._usable(model, options)
        if runner is None:
            runner = await self._queue(model, options)
        self._attach(runner, keep_alive_s)
        try:
            yield runner
        finally:
            self._detach(runner)

    def expire(self, model: SimModel) -> None:
        """Unload a model as soon as it is idle: what keep_alive 0 without a prompt asks for."""
        runner = self._runners.get(model.ref.key)
        if runner is not None:
            self._retire(runner)

    def expire_all(self) -> None:
        """Unload every model as soon as it is idle (the reaction to running out of memory)."""
        for runner in list(self._runners.values()):
            self._retire(runner)

    def shutdown(self) -> None:
        """Unload everything at once; timers must not outlive the host."""
        for runner in list(self._runners.values()):
            self._unload(runner)

    def _usable(self, model: SimModel, options: LoadOptions) -> Runner | None:
        runner = self._runners.get(model.ref.key)
        if runner is None or runner.dead or runner.options != options:
            return None
        return runner

    async def _queue(self, model: SimModel, options: LoadOptions) -> Runner:
        # The channel of sched.go holds those that wait behind the one in work, so the one in work
        # does not count.
        if self._waiting > self._settings.max_queue:
            raise QueueFull
        self._waiting += 1
        try:
            async with self._loading:
                return self._usable(model, options) or await self._load(model, options)
        finally:
            self._waiting -= 1

    async def _load(self, model: SimModel, options: LoadOptions) -> Runner:
        stale = self._runners.get(model.ref.key)
        if stale is not None:
            await self._evict(stale)
        while len(self._runners) >= self._settings.max_loaded_models:
            await self._evict(self._victim())
        stats = self._stats.of(model.ref.short)
        try:
            await asyncio.sleep(model.load_s)
        except asyncio.CancelledError:
            stats.loads_aborted += 1
            raise
        stats.loads += 1
        runner = Runner(model, options, self._slots(model), stats)
        self._runners[model.ref.key] = runner
        return runner

    def _slots(self, model: SimModel) -> int:
        if not model.can("completion") or model.family in SINGLE_SLOT_FAMILIES:
            return 1
        return self._settings.num_parallel

    def _victim(self) -> Runner:
        # An idle one first, then the shortest keep-alive (findRunnerToUnload).
        return min(
            self._runners.values(),
            key=lambda runner: (runner.users > 0, runner.keep_alive_s, runner.model.ref.key),
        )

    async def _evict(self, runner: Runner) -> None:
        self._retire(runner)
        await runner.gone.wait()

    def _attach(self, runner: Runner, keep_alive_s: float | None) -> None:
        runner.users += 1
        self._stop_timer(runner)
        # A value of the request's own sticks to the runner, even to one that was told to unload:
        # that is how a busy model can keep a waiting one out (ollama#7779).
        if keep_alive_s is not None:
            runner.keep_alive_s = keep_alive_s
        elif not runner.expires_unix_s:
            runner.keep_alive_s = self._settings.keep_alive_s
        self._expires_after(runner, runner.keep_alive_s)

    def _detach(self, runner: Runner) -> None:
        runner.users -= 1
        if runner.users == 0 and not runner.gone.is_set():
            self._idle(runner)

    def _idle(self, runner: Runner) -> None:
        if runner.keep_alive_s <= 0:
            self._unload(runner)
        elif runner.keep_alive_s < FOREVER_S:
            self._expires_after(runner, runner.keep_alive_s)
            loop = asyncio.get_running_loop()
            runner.timer = loop.call_later(runner.keep_alive_s, self._unload, runner)

    def _retire(self, runner: Runner) -> None:
        runner.keep_alive_s = 0.0
        self._expires_after(runner, 0)
        self._stop_timer(runner)
        if runner.users == 0:
            self._unload(runner)

    def _unload(self, runner: Runner) -> None:
        self._stop_timer(runner)
        if self._runners.get(runner.model.ref.key) is runner:
            del self._runners[runner.model.ref.key]
            runner.stats.unloads += 1
        runner.gone.set()

    def _expires_after(self, runner: Runner, idle_s: float) -> None:
        runner.expires_unix_s = self._clock.unix_s() + idle_s

    def _stop_timer(self, runner: Runner) -> None:
        if runner.timer is not None:
            runner.timer.cancel()
            runner.timer = None
