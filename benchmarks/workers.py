"""`python -m benchmarks.workers`: what several workers are worth on a machine of few cores.

A gateway of one process, one of several workers, and as many gateways that share nothing run all
the time, and are asked in turn: nginx answers, wrk asks, as in `python -m benchmarks`. The load
generator needs a core, too, so requests per second of everything on the same cores say little.
Told is therefore what the gateway could do with the cores for itself:

    capacity = cores / processor time per request of all its processes

with everything free to run on all cores, so that what workers cost each other by writing to the
same memory from different cores is in it. The same is measured with the gateways on one core, which
they saturate or share, and the load on the other: there, a second process also costs the changes
from one to the other, as two gateways that share nothing show.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import bodies, gateways, machine, measure, process
from benchmarks.__main__ import cores_of
from benchmarks.gateways import CHAT, Site
from benchmarks.install import Installed, NotInstalled, arriero, say
from benchmarks.paths import HERE, WORK
from benchmarks.ports import NotReady, free_ports, wait_for_200
from benchmarks.process import Server
from benchmarks.rig import Mock, Rig, RigBroken, Target, WrkResult, allow_many_files, find_tools

OUTPUT = HERE / "results" / "workers.json"
CONNECTIONS = 32  # of each load generator, of which there is one for each process that serves
SETTLE_S = 0.8  # until the access log is written
RATIO_MIN = 1.7
ONE, ALL = "one core", "all cores"
READY_LIMIT_S = 60.0
LIMITS = "    limits: {requests_per_minute: 1000000}\n"  # never reached, and counted all the same


@dataclass(frozen=True)
class Asked:
    """Gateways that are asked at the same time, with the number of processes that serve."""

    name: str
    servers: Sequence[Server]
    targets: Sequence[Target]
    processes: int

    def cpu_s(self) -> float:
        """Return the processor time of all processes, a supervisor's included."""
        return sum(server.cpu_s() for server in self.servers)


def main(arguments: Sequence[str]) -> int:
    """Measure and print; 1 when the target was missed."""
    options = parse(arguments)
    try:
        allow_many_files()
        tools = find_tools()
        installed = arriero(worktree=options.worktree, name="arriero-workers")
    except (NotInstalled, RigBroken) as problem:
        say(f"error: the rig cannot run: {problem}")
        return 3
    rig = Rig(tools, cores_of(options), WORK / "run-workers")
    mock = rig.start_nginx()
    try:
        found = measured(rig, mock, installed, options)
    except NotReady as problem:
        say(f"error: a gateway did not start: {problem}")
        return 3
    finally:
        mock.server.stop()
    facts = {"machine": machine.facts(), "arriero": dict(installed.facts), **found}
    print(report(found, options.workers))
    if options.output is not None:
        options.output.write_text(json.dumps(facts, indent=1) + "\n")
        say(f"wrote {options.output}")
    ratio = found["ratio"]
    assert isinstance(ratio, float)
    return 1 if ratio < RATIO_MIN else 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.workers", description=__doc__)
    add = parser.add_argument
    add("--workers", type=int, default=2, help="how many")
    add("--limits", action="store_true", help="with limits that are counted and never reached")
    add("--seconds", type=float, default=2.0, help="length of each measurement")
    add("--rounds", type=int, default=5, help="how often all are asked")
    add("--worktree", action="store_true", help="measure arriero's files as they are, uncommitted")
    add("--gateway-core", type=int, help="the core of the gateways (default: the first)")
    add("--load-core", type=int, help="the core of everything else (default: the second)")
    add("--output", type=Path, help=f"where the JSON goes, such as {OUTPUT.name}")
    return parser.parse_args(arguments)


@contextmanager
def running(
    rig: Rig, mock: Mock, installed: Installed, name: str, options: argparse.Namespace
) -> Iterator[tuple[Server, Target]]:
    """Run a gateway; of several workers if that is its name."""
    (port,) = free_ports(1)
    folder = rig.folder / f"{name}-{port}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    launch = gateways.arriero(Site(port, mock.ports, folder, installed), "ollama")
    if options.limits:
        config = Path(launch.argv[-1])
        config.write_text(config.read_text().replace("server:\n", f"{LIMITS}server:\n"))
    argv = [*launch.argv]
    if name == "workers":
        argv += ["--workers", str(options.workers)]
    log = folder / "output.log"
    core = rig.cores.gateway
    server = process.start(argv, core=core, log=log, env=launch.env, folder=folder)
    try:
        target = Target(port, measure.client_headers({}))
        question = bodies.question("Are you there?", stream=False)
        wait_for_200(server, port, (CHAT, question, target.headers), READY_LIMIT_S)
        yield server, target
    finally:
        server.stop()


def measured(
    rig: Rig, mock: Mock, installed: Installed, options: argparse.Namespace
) -> dict[str, object]:
    """Take all figures."""
    count = options.workers
    with ExitStack() as stack:

        def start(name: str) -> tuple[Server, Target]:
            return stack.enter_context(running(rig, mock, installed, name, options))

        alone, together = start("one"), start("workers")
        apart = [alone, *(start("other") for _ in range(count - 1))]
        asked = [
            Asked("one process", [alone[0]], [alone[1]], 1),
            Asked(f"{count} workers", [together[0]], [together[1]], count),
            Asked(f"{count} gateways", [s for s, _ in apart], [t for _, t in apart], count),
        ]
        rounds: dict[str, list[dict[str, dict[str, float]]]] = {ONE: [], ALL: []}
        for _ in range(options.rounds):
            for where, taken in rounds.items():
                place(rig, mock, asked, everywhere=where == ALL)
                found = {one.name: ask(rig, one, options.seconds) for one in asked}
                taken.append(found)
                words = [f"{name} {each['cpu_us']:.1f} us" for name, each in found.items()]
                say(f"{where}: {', '.join(words)}")
    table = {
        where: {
            one.name: {
                figure: median(found[one.name][figure] for found in taken)
                for figure in ("cpu_us", "per_s")
            }
            for one in asked
        }
        for where, taken in rounds.items()
    }
    names = [one.name for one in asked]
    ratios = {
        where: [count * found[names[0]]["cpu_us"] / found[names[1]]["cpu_us"] for found in taken]
        for where, taken in rounds.items()
    }
    return {"table": table, "ratios": ratios, "ratio": median(ratios[ALL]), "rounds": rounds}


def place(rig: Rig, mock: Mock, asked: Sequence[Asked], *, everywhere: bool) -> None:
    """Let the gateways run on one core and the load on the other, or everything everywhere."""
    both = {rig.cores.gateway, rig.cores.load}
    load = both if everywhere else {rig.cores.load}
    os.sched_setaffinity(0, load)
    _pin(mock.server, load)
    for one in asked:
        for server in one.servers:
            _pin(server, both if everywhere else {rig.cores.gateway})


def _pin(server: Server, cores: set[int]) -> None:
    for stat in server.members():
        for task in Path(f"/proc/{stat.pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), cores)


def ask(rig: Rig, one: Asked, seconds: float) -> dict[str, float]:
    """Load what is asked; return microseconds per request, and requests per second."""

    def load(length_s: float) -> list[WrkResult]:
        with ThreadPoolExecutor(one.processes) as threads:
            calls = [
                threads.submit(rig.wrk, one.targets[at % len(one.targets)], CONNECTIONS, length_s)
                for at in range(one.processes)
            ]
            return [call.result() for call in calls]

    load(1)
    time.sleep(SETTLE_S)
    before_s = one.cpu_s()
    results = load(seconds)
    time.sleep(SETTLE_S)
    requests, errors = sum(r.requests for r in results), sum(r.errors for r in results)
    if errors or not requests:
        raise RigBroken(f"{one.name}: {errors} errors in {requests} requests")
    cpu_us = (one.cpu_s() - before_s) / requests * 1e6
    return {"cpu_us": cpu_us, "per_s": sum(r.requests / r.seconds for r in results)}


def report(found: dict[str, object], workers: int) -> str:
    """Return the figures as a table, and whether the target was reached."""
    table, ratio, ratios = found["table"], found["ratio"], found["ratios"]
    assert isinstance(table, dict)
    assert isinstance(ratio, float)
    assert isinstance(ratios, dict)
    lines = [f"{'':24}{'us a request':>14}{'requests/s':>12}{'capacity/s':>12}"]
    for where, rows in table.items():
        lines.append(f"gateways on {where}")
        for number, (name, figures) in enumerate(rows.items()):
            cores = workers if number else 1
            capacity = cores * 1e6 / figures["cpu_us"]
            told = f"{figures['cpu_us']:14.1f}{figures['per_s']:12.0f}{capacity:12.0f}"
            lines.append(f"  {name:22}{told}")
    for where, each in ratios.items():
        spread = f"{median(each):.2f} times ({min(each):.2f} to {max(each):.2f})"
        lines.append(f"capacity of {workers} workers, gateways on {where}: {spread}")
    lines.append(f"{'pass' if ratio >= RATIO_MIN else 'FAIL'}: at least {RATIO_MIN} of 2 workers")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
