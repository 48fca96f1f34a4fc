"""Run policies on traces, and put the seeds together."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.fleet.engine import Engine
from benchmarks.fleet.figures import Figures, Sample, figures, sample
from benchmarks.fleet.policies import MAKERS
from benchmarks.fleet.traces import TRACES
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


@dataclass
class Results:
    """Everything a run found: by trace and policy, and by trace, load and policy."""

    traces: dict[str, dict[str, Figures]] = field(default_factory=dict)
    sweeps: dict[str, dict[str, dict[str, Figures]]] = field(default_factory=dict)


def play(trace: Trace, policy: str, seed: int) -> Sample:
    """Run one policy on one trace."""
    engine = Engine(trace)
    engine.run(MAKERS[policy](engine, seed))
    return sample(engine)


def compare(
    name: str, policies: Sequence[str], seeds: Sequence[int], load: float | None = None
) -> dict[str, Figures]:
    """Run policies on the same requests, seed by seed."""
    made = TRACES[name]
    found: dict[str, list[Sample]] = {policy: [] for policy in policies}
    for seed in seeds:
        trace = made(seed) if load is None else made(seed, load)
        for policy in policies:
            found[policy].append(play(trace, policy, seed))
    return {policy: figures(samples) for policy, samples in found.items()}


def simulate(
    traces: Sequence[str], policies: Sequence[str], seeds: Sequence[int], loads: Sequence[float]
) -> Results:
    """Run everything; progress goes to stderr."""
    results = Results()
    for name in traces:
        began = time.monotonic()
        results.traces[name] = compare(name, policies, seeds)
        if name in SWEPT and loads:
            swept = [policy for policy in SWEEP_POLICIES if policy in policies]
            results.sweeps[name] = {
                f"{load:g}": compare(name, swept, seeds[:1], load) for load in loads
            }
        print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr)
    return results
