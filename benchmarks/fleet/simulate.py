"""Run policies on traces, and put the seeds together."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from benchmarks.fleet.engine import Engine
from benchmarks.fleet.figures import Figures, Sample, figures, sample
from benchmarks.fleet.policies import MAKERS
from benchmarks.fleet.traces import TRACES, VARIANTS, chat
from benchmarks.fleet.workload import Trace

SEEDS: Final = (1, 2, 3)
LOADS: Final = (0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.2)
SWEPT: Final = ("chat", "agents")
SWEEP_POLICIES: Final = (
    "adaptive",
    "least-busy",
    "litellm-least-busy",
    "round-robin",
    "herd-like",
    "bounded-hashing",
)
VARIED_POLICIES: Final = ("adaptive", "litellm-least-busy", "round-robin")


@dataclass
class Results:
    """Everything a run found: by trace and policy, by trace, load and policy, and by variant."""

    traces: dict[str, dict[str, Figures]] = field(default_factory=dict)
    sweeps: dict[str, dict[str, dict[str, Figures]]] = field(default_factory=dict)
    variants: dict[str, dict[str, Figures]] = field(default_factory=dict)


def play(trace: Trace, policy: str, seed: int) -> Sample:
    """Run one policy on one trace."""
    engine = Engine(trace)
    engine.run(MAKERS[policy](engine, seed))
    return sample(engine)


def compare(
    made: Callable[[int], Trace], policies: Sequence[str], seeds: Sequence[int]
) -> dict[str, Figures]:
    """Run policies on the same requests, seed by seed; `made` makes the trace of a seed."""
    found: dict[str, list[Sample]] = {policy: [] for policy in policies}
    for seed in seeds:
        trace = made(seed)
        for policy in policies:
            found[policy].append(play(trace, policy, seed))
    return {policy: figures(samples) for policy, samples in found.items()}


def vary(policies: Sequence[str], seeds: Sequence[int]) -> dict[str, dict[str, Figures]]:
    """Run policies on the chats under other assumptions."""
    return {
        name: compare(partial(chat, load=load, manner=manner), policies, seeds)
        for name, (load, manner) in VARIANTS.items()
    }


def simulate(
    traces: Sequence[str], policies: Sequence[str], seeds: Sequence[int], loads: Sequence[float]
) -> Results:
    """Run everything; progress goes to stderr."""
    results = Results()
    for name in traces:
        began = time.monotonic()
        results.traces[name] = compare(TRACES[name], policies, seeds)
        if name in SWEPT and loads:
            swept = [policy for policy in SWEEP_POLICIES if policy in policies]
            results.sweeps[name] = {
                f"{load:g}": compare(partial(TRACES[name], load=load), swept, seeds[:1])
                for load in loads
            }
        if name == "chat" and loads:
            varied = [policy for policy in VARIED_POLICIES if policy in policies]
            results.variants = vary(varied, seeds)
        print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr)
    return results
