"""`python -m benchmarks`: install the peers, measure them beside arriero, write the tables."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import report, run, tables
from benchmarks.gateways import Gateway, entrants
from benchmarks.install import NotInstalled, say
from benchmarks.measure import Plan
from benchmarks.paths import LATEST, WORK
from benchmarks.results import load, save
from benchmarks.rig import Cores, Rig, RigBroken, allow_many_files, find_tools

QUICK = Plan(seconds=1.0, rounds=1, ramp_s=1.0, ramp_max_s=6.0, limit_s=180.0, memory=False)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    add = parser.add_argument
    add("--only", default="", metavar="NAMES", help="only these entrants, comma-separated")
    add("--skip", default="", metavar="NAMES", help="not these entrants")
    add("--quick", action="store_true", help="one short round (about 3 minutes), for a look")
    add("--seconds", type=float, help="length of each measurement (default 3)")
    add("--rounds", type=int, help="how often all are measured (default 3)")
    add("--minutes", type=float, help="time limit of the measurements (default 25)")
    add("--worktree", action="store_true", help="measure arriero's files as they are, uncommitted")
    add("--install-only", action="store_true", help="install everything and stop")
    add("--gateway-core", type=int, help="the core of the gateway (default: the first)")
    add("--load-core", type=int, help="the core of everything else (default: the second)")
    add("--output", type=Path, default=LATEST, help="where the JSON goes")
    add("--no-pages", action="store_true", help="leave README, docs and chart alone")
    return parser.parse_args(arguments)


def plan_of(options: argparse.Namespace) -> Plan:
    """Return what the options make of the plan."""
    base = QUICK if options.quick else Plan()
    return replace(
        base,
        seconds=options.seconds or base.seconds,
        rounds=options.rounds or base.rounds,
        limit_s=options.minutes * 60 if options.minutes else base.limit_s,
    )


def cores_of(options: argparse.Namespace) -> Cores:
    """Return the two cores; with one only, both sides share it and the report says so."""
    allowed = sorted(os.sched_getaffinity(0))
    gateway = allowed[0] if options.gateway_core is None else options.gateway_core
    load = allowed[-1 if len(allowed) < 2 else 1]
    return Cores(gateway, load if options.load_core is None else options.load_core)


def chosen(options: argparse.Namespace) -> list[Gateway]:
    """Return the entrants that were asked for; an unknown name is a mistake."""
    everybody = entrants(worktree=options.worktree)
    names = [gateway.name for gateway in everybody]
    only = [name for name in options.only.split(",") if name]
    skip = [name for name in options.skip.split(",") if name]
    unknown = set(only + skip) - set(names)
    if unknown:
        say(f"error: unknown: {', '.join(sorted(unknown))}\nhint: choose from {', '.join(names)}")
        raise SystemExit(2)
    wanted = set(only or names) - set(skip)
    return [gateway for gateway in everybody if gateway.name in wanted]


def _raise_exit(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def main(arguments: Sequence[str]) -> int:
    """Run everything; the exit code is 1 when a target was missed."""
    options = parse(arguments)
    # Only an exception runs the clean-up that ends the servers, so a signal becomes one.
    signal.signal(signal.SIGTERM, _raise_exit)
    gateways, plan, cores, book = chosen(options), plan_of(options), cores_of(options), run.Book()
    if cores.gateway == cores.load:
        book.notes.append("gateway and load shared one core: only processor times mean anything")
    try:
        allow_many_files()
        tools = find_tools()
    except (NotInstalled, RigBroken) as problem:
        say(f"error: the rig cannot run: {problem}")
        return 3
    entries = run.installed(gateways, book)
    if options.install_only:
        return 0
    began = time.monotonic()
    rig = Rig(tools, cores, WORK / "run")
    try:
        run.Run(rig, plan, entries, book).rounds()
    except RigBroken as problem:
        say(f"error: the rig broke: {problem}")
        book.notes.append(f"the rig broke and ended the run: {problem}")
        if len(book.rounds) < 2:
            return 3
    results = run.results(gateways, entries, rig, plan, book)
    say(f"measured in {(time.monotonic() - began) / 60:.1f} minutes")
    save(results, options.output)
    results = load(options.output)  # rounded: what is shown now must be what is shown from it later
    if not options.no_pages:
        for path in report.write(results):
            say(f"wrote {path}")
    print(report.full(results))
    missed = [line for line in tables.target_lines(results) if line.startswith("FAIL")]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
