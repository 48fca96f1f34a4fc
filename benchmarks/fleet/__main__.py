"""`python -m benchmarks.fleet`: compare routing policies in simulation, time decisions, check both.

simulate   play every trace with every policy; write JSON, tables and charts (3 minutes)
decisions  time a routing decision in fleets of 2 to 1,000 hosts
check      play a small scenario on real servers of the embedded fleet and in the simulator
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.fleet import check, decisions, report
from benchmarks.fleet.policies import MAKERS, OURS
from benchmarks.fleet.simulate import LOADS, SEEDS, simulate
from benchmarks.fleet.traces import TRACES

DECISION_US_MAX = 20.0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="benchmarks.fleet", description=__doc__, formatter_class=formatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    play = commands.add_parser("simulate")
    play.add_argument("--traces", default=",".join(TRACES), metavar="NAMES")
    play.add_argument("--policies", default=",".join(MAKERS), metavar="NAMES")
    play.add_argument("--seeds", default=",".join(map(str, SEEDS)), metavar="NUMBERS")
    play.add_argument("--no-sweep", action="store_true", help="leave the other loads out")
    play.add_argument("--no-pages", action="store_true", help="write nothing, only print")
    play.add_argument("--output", type=Path, default=report.JSON, help="where the JSON goes")
    commands.add_parser("pages", help="write tables and charts again from the JSON")
    time_them = commands.add_parser("decisions")
    time_them.add_argument("--hosts", default=",".join(map(str, decisions.SIZES)))
    check = commands.add_parser("check")
    check.add_argument("--hosts", type=int, default=2, help="servers of the embedded fleet")
    return parser.parse_args(arguments)


def names(text: str, known: Sequence[str]) -> list[str]:
    """Return the names of a comma-separated list; an unknown one is a mistake."""
    chosen = [name for name in text.split(",") if name]
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        sys.stderr.write(
            f"error: unknown: {', '.join(unknown)}\nhint: choose from {', '.join(known)}\n"
        )
        raise SystemExit(2)
    return chosen


def run_simulation(options: argparse.Namespace) -> int:
    """Play, print and write; 1 when a target was missed."""
    seeds = [int(seed) for seed in options.seeds.split(",")]
    traces = names(options.traces, list(TRACES))
    policies = names(options.policies, list(MAKERS))
    results = simulate(traces, policies, seeds, () if options.no_sweep else LOADS)
    print(report.full(results))
    if not options.no_pages:
        report.save(results, seeds, options.output)
        for path in report.write(results):
            sys.stderr.write(f"wrote {path}\n")
    return 1 if any(line.startswith("MISSED") for line in report.target_lines(results)) else 0


def run_decisions(options: argparse.Namespace) -> int:
    """Time decisions; 1 when the largest fleet's take too long, or grow as fast as it."""
    timings = [decisions.measure(int(hosts)) for hosts in options.hosts.split(",")]
    print("\n".join(decisions.table(timings)))
    exponent = decisions.growth(timings)
    print(f"\ngrowth: hosts to the power of {exponent:.2f}")
    return 1 if timings[-1].adaptive > DECISION_US_MAX or exponent >= 1 else 0


def main(arguments: Sequence[str]) -> int:
    """Run a command."""
    options = parse(arguments)
    if options.command == "simulate":
        return run_simulation(options)
    if options.command == "pages":
        for path in report.write(report.load(report.JSON)):
            sys.stderr.write(f"wrote {path}\n")
        return 0
    if options.command == "decisions":
        return run_decisions(options)
    return check.main(options.hosts)


if __name__ == "__main__":
    assert OURS in MAKERS
    sys.exit(main(sys.argv[1:]))
