"""One run: start everything, strike, compare, come to rest, stop everything."""

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from benchmarks.chaos import clients
from benchmarks.chaos.backends import Backend, standing, strike
from benchmarks.chaos.clients import Tally
from benchmarks.chaos.gateway import Gateway, serving, summed, unrest
from benchmarks.chaos.schedule import Event, draw

REST_S = 30.0
LOOK_S = 2.0
# Memory is compared between the end and a moment when everything has been used once.
WARM_SHARE = 0.25


@dataclass(frozen=True)
class Settings:
    """What is asked for."""

    duration_s: float
    streams: int
    backends: int
    slots: int  # of each backend
    tokens_per_s: float  # of each stream
    seed: int


@dataclass
class Outcome:
    """What came of a run."""

    settings: Settings
    tally: Tally
    events: list[Event]
    took_s: float = 0.0
    warm_kib: int = 0
    end_kib: int = 0
    most_kib: int = 0
    counts: dict[str, float] = field(default_factory=dict)  # what the gateway counted
    unrest: list[str] = field(default_factory=list)

    @property
    def grown_kib(self) -> int:
        """How much more memory it holds at the end than when it was warm."""
        return self.end_kib - self.warm_kib

    @property
    def struck(self) -> Counter[str]:
        """The events by kind."""
        return Counter(event.kind.value for event in self.events)


def run(settings: Settings) -> Outcome:
    """Run it all on loopback; nothing remains."""
    with (
        tempfile.TemporaryDirectory(prefix="arriero-chaos-") as folder,
        standing(settings.backends, settings.tokens_per_s, settings.slots) as backends,
        serving(Path(folder), [backend.url for backend in backends], settings.slots) as gateway,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(_run(settings, backends, gateway))


async def _run(settings: Settings, backends: Sequence[Backend], gateway: Gateway) -> Outcome:
    tally = Tally()
    events = draw(settings.seed, settings.duration_s, settings.backends)
    outcome = Outcome(settings, tally, events)
    begun_s = time.monotonic()
    until_s = begun_s + settings.duration_s
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(_watch(gateway, outcome, begun_s))
        for event in events:
            group.create_task(_strike_at(begun_s, event, backends))
        async with asyncio.TaskGroup() as asking:
            for number in range(settings.streams):
                seed = f"{settings.seed}-{number}"
                asking.create_task(clients.client(gateway.port, seed, until_s, tally))
        outcome.took_s = time.monotonic() - begun_s
        watch.cancel()
    await _rest(gateway, outcome)
    return outcome


async def _strike_at(begun_s: float, event: Event, backends: Sequence[Backend]) -> None:
    await asyncio.sleep(max(begun_s + event.at_s - time.monotonic(), 0))
    await strike(backends[event.backend], event)


async def _watch(gateway: Gateway, outcome: Outcome, begun_s: float) -> None:
    """Look at the gateway's memory from time to time."""
    while True:
        await asyncio.sleep(LOOK_S)
        kib = gateway.rss_kib()
        outcome.most_kib = max(outcome.most_kib, kib)
        if time.monotonic() - begun_s < outcome.settings.duration_s * WARM_SHARE:
            outcome.warm_kib = kib


async def _rest(gateway: Gateway, outcome: Outcome) -> None:
    """Wait until nothing is counted any more, and note what still is after a while."""
    give_up_s = time.monotonic() + REST_S
    while True:
        metrics = await asyncio.to_thread(gateway.metrics)
        status = await asyncio.to_thread(gateway.status)
        outcome.unrest = unrest(metrics, status)
        if not outcome.unrest or time.monotonic() > give_up_s:
            break
        await asyncio.sleep(0.25)
    outcome.end_kib = gateway.rss_kib()
    for family in (
        "arriero_resumptions_total",
        "arriero_backend_failures_total",
        "arriero_backend_requests_total",
    ):
        for labels, value in summed(metrics, family).items():
            outcome.counts[f"{family}{{{labels}}}"] = value
    for family in ("arriero_retries_total", "arriero_failovers_total", "arriero_ejections_total"):
        outcome.counts[family] = sum(summed(metrics, family).values())
