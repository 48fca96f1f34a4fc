"""`python -m lab`: boot the hosts, play the story, write the evidence, remove everything."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab import needs, paths, report, story
from lab.control import Control
from lab.journal import Journal
from lab.leftovers import leftovers
from lab.locked import only_one
from lab.problems import CannotRun, LabProblem
from lab.scenario import BRIEF, WHOLE, WITH_AD, Scenario
from lab.scene import Scene, Step
from lab.shell import Shell, Transcript
from lab.ssh import Ssh
from lab.stage import Builder, Stage

CANNOT_RUN = 3


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="scripts/lab", description=__doc__)
    add = parser.add_argument
    add("action", nargs="?", choices=["run", "down", "steps"], default="run")
    add("--short", action="store_true", help="simulated models and no Open WebUI: minutes")
    add("--with-ad", action="store_true", help="a real Active Directory, for the preflight alone")
    add("--keep", action="store_true", help="leave the hosts running for --only and for ssh")
    add("--only", nargs="+", metavar="STEP", default=[], help="only these steps")
    add("--if-possible", action="store_true", help="exit 0 with a reason where it cannot run")
    return parser.parse_args(arguments)


def say(text: str) -> None:
    """Tell the person who waits."""
    print(text, flush=True)


def chosen(options: argparse.Namespace) -> list[Step]:
    """Return the steps that were asked for; an unknown name is a mistake."""
    steps = story.STEPS[scenario_of(options).name]
    unknown = set(options.only) - {step.name for step in steps}
    if unknown:
        names = ", ".join(step.name for step in steps)
        raise CannotRun(f"no such step: {', '.join(sorted(unknown))}\nhint: choose from {names}")
    return [step for step in steps if not options.only or step.name in options.only]


def evidence_folder() -> Path:
    """Make the folder of this run's evidence."""
    folder = paths.EVIDENCE / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    folder.mkdir(parents=True, mode=0o700)
    return folder


def undo_list() -> Path:
    """Return where the undo list is."""
    return paths.cache() / "undo.jsonl"


def clean_up() -> int:
    """Remove what a kept or killed lab left; return how many things that were."""
    journal = Journal.read(undo_list())
    count = len(journal)
    journal.undo_all()
    return count


def kept_stage(shell: Shell, scenario: Scenario) -> Stage | None:
    """Return the stage that a run with --keep left, if it is the one asked for."""
    mark = paths.run_folder() / "kept"
    if not mark.is_file() or mark.read_text(encoding="utf-8") != scenario.name:
        return None
    return Stage(shell, Ssh(shell, paths.run_folder() / "keys"), scenario, paths.run_folder())


def scenario_of(options: argparse.Namespace) -> Scenario:
    """Return the way to run the lab that was asked for."""
    if options.with_ad:
        return WITH_AD
    return BRIEF if options.short else WHOLE


@contextmanager
def the_stage(shell: Shell, options: argparse.Namespace) -> Iterator[Stage]:
    """Give a stage: the kept one if single steps are asked for, else a fresh one."""
    kept = kept_stage(shell, scenario_of(options)) if options.only else None
    if kept is not None:
        yield kept
        return
    if clean_up():
        say("removed what an earlier lab had left")
    journal = Journal(undo_list())
    with Builder(shell, journal, scenario_of(options)).stage() as stage:
        try:
            yield stage
        finally:
            if options.keep:
                (stage.folder / "kept").write_text(stage.scenario.name, encoding="utf-8")
                journal.leave()


def perform(scene: Scene, steps: Sequence[Step]) -> list[report.Row]:
    """Play the steps until one fails."""
    rows: list[report.Row] = []
    for step in steps:
        began = time.monotonic()
        scene.shell.transcript.write(f"======== {step.name}")
        try:
            row = report.Row(step.name, passed=True, duration_s=0, note=step.play(scene))
        except LabProblem as problem:
            row = report.Row(step.name, passed=False, duration_s=0, note=str(problem))
        rows.append(report.Row(row.step, row.passed, time.monotonic() - began, row.note))
        scene.shell.transcript.write(report.line(rows[-1]))
        say(report.line(rows[-1]))
        if not row.passed:
            say(row.note)
            break
    return rows


def save_logs(scene: Scene) -> None:
    """Keep each host's journal."""
    for host in scene.stage.hosts:
        done = scene.on(host, "journalctl -b --no-pager -o short-precise", check=False)
        path = scene.evidence / f"journal-{host.name}.txt"
        path.write_text(done.output.replace(scene.control.master_key, "***"), encoding="utf-8")


def run(options: argparse.Namespace) -> int:
    """Play the story; the exit code is 0 for GO and 1 for NO-GO."""
    steps = chosen(options)
    began = time.monotonic()
    needs.require(Shell(Transcript()), browser=scenario_of(options) is WHOLE)
    with only_one():
        evidence = evidence_folder()
        shell = Shell(Transcript(evidence / "transcript.txt"))
        with the_stage(shell, options) as stage:
            rows = [booted(stage, time.monotonic() - began)]
            control = Control(stage, evidence)
            if control.inventory.exists():
                control.write_variables()  # of this run's evidence folder
            else:
                control.prepare()
            scene = Scene(stage, control, evidence)
            rows += perform(scene, steps)
            save_logs(scene)
            ending = time.monotonic()
        if not options.keep:
            rows.append(torn_down(time.monotonic() - ending))
        report.write(evidence, rows)
        took_s = time.monotonic() - began
        say(f"{report.verdict(rows)} in {took_s:.0f} s; evidence in {evidence}")
        return 0 if report.verdict(rows) == "GO" else 1


def booted(stage: Stage, took_s: float) -> report.Row:
    """Tell that the hosts are up."""
    row = report.Row("boot", passed=True, duration_s=took_s, note=f"{len(stage.hosts)} hosts up")
    say(report.line(row))
    return row


def torn_down(took_s: float) -> report.Row:
    """See that nothing of the lab is left."""
    left = leftovers()
    note = f"left behind: {', '.join(left)}" if left else "no machine, mount, link or group is left"
    row = report.Row("teardown", passed=not left, duration_s=took_s, note=note)
    say(report.line(row))
    return row


def _raise_exit(number: int, _frame: object) -> None:
    # Once: a second signal must not break the clean-up that the first one began.
    for name in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(name, signal.SIG_IGN)
    raise SystemExit(128 + number)


def catch_signals() -> None:
    """Let a signal end the run as an exception does, so that everything made is undone."""
    for name in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(name, _raise_exit)


def main(arguments: Sequence[str]) -> int:
    """Do what was asked for."""
    options = parse(arguments)
    catch_signals()
    os.umask(0o022)
    try:
        if options.action == "steps":
            say("\n".join(step.name for step in chosen(options)))
            return 0
        if options.action == "down":
            with only_one(wait_s=0):
                say(f"removed {clean_up()} things")
            return 0
        return run(options)
    except CannotRun as problem:
        say(f"the lab cannot run: {problem}")
        return 0 if options.if_possible else CANNOT_RUN
    except LabProblem as problem:
        say(f"error: {problem}")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
