"""Processor time between two moments: of a gateway's process tree, and of the two cores."""

import time
from dataclasses import dataclass

from benchmarks.process import CoreTime, Server, core_time
from benchmarks.rig import Cores

LOAD_CORE_BUSY_MAX = 0.95
FOREIGN_MAX = 0.10
STEAL_MAX = 0.03


@dataclass(frozen=True)
class Sample:
    """All counters at one moment."""

    at_s: float
    cpu_s: float
    gateway_core: CoreTime
    load_core: CoreTime


def sample(server: Server | None, cores: Cores) -> Sample:
    """Read the counters; without a server (the direct row) its time is zero."""
    return Sample(
        at_s=time.monotonic(),
        cpu_s=server.cpu_s() if server is not None else 0.0,
        gateway_core=core_time(cores.gateway),
        load_core=core_time(cores.load),
    )


@dataclass(frozen=True)
class Usage:
    """What was used between two samples; shares are of one core."""

    seconds: float
    cpu_s: float
    load_core_busy: float
    foreign: float
    steal: float

    @property
    def gateway_core_busy(self) -> float:
        """The share of its core that the gateway and everything foreign used."""
        return self.cpu_s / self.seconds + self.foreign


def usage(before: Sample, after: Sample) -> Usage:
    """Return the difference of two samples."""
    seconds = max(after.at_s - before.at_s, 1e-6)
    cpu_s = after.cpu_s - before.cpu_s
    busy = after.gateway_core.busy_s - before.gateway_core.busy_s
    stolen = after.gateway_core.steal_s - before.gateway_core.steal_s
    stolen += after.load_core.steal_s - before.load_core.steal_s
    return Usage(
        seconds=seconds,
        cpu_s=cpu_s,
        load_core_busy=(after.load_core.busy_s - before.load_core.busy_s) / seconds,
        foreign=max(0.0, busy - cpu_s) / seconds,
        steal=stolen / (2 * seconds),
    )


def noise(use: Usage) -> list[str]:
    """Say what disturbed a measurement, for the marks of its figures."""
    marks = []
    if use.foreign > FOREIGN_MAX:
        marks.append("other work ran on the gateway's core")
    if use.steal > STEAL_MAX:
        marks.append("the host took processor time away")
    return marks


def rig_bound(use: Usage) -> list[str]:
    """Say that the rig and not the gateway set the pace, when it did."""
    if use.load_core_busy > LOAD_CORE_BUSY_MAX and use.gateway_core_busy < LOAD_CORE_BUSY_MAX:
        return ["the rig was the limit"]
    return []
