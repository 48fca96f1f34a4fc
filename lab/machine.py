"""Hosts as systemd-nspawn machines: booted from an overlay, ended by their process id."""

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.cgroups import own_group
from lab.hosts import Host
from lab.journal import Journal, started_at
from lab.problems import LabProblem
from lab.shell import Shell
from lab.ssh import Ssh

BOOT_TIMEOUT_S = 120.0
# nspawn that runs in a group of somebody else's ends with 133 when its machine restarts, and leaves
# starting it again to whoever started it: this. It passes on SIGTERM, at which the machine shuts
# down, and takes nspawn with it when it is killed.
RESTARTED = 133
KEEPER = f"""\
machine= stop=
trap 'stop=1; [ -z "$machine" ] || kill -TERM "$machine"' TERM
code={RESTARTED}
while [ "$code" = {RESTARTED} ] && [ -z "$stop" ]; do
  setpriv --pdeathsig KILL "$@" & machine=$!
  code=
  while kill -0 "$machine" 2>/dev/null; do
    wait "$machine"
    code=$?
  done
done
exit "${{code:-1}}"
"""


@dataclass(frozen=True)
class Machine:
    """A machine that was started."""

    host: Host
    process: "subprocess.Popen[bytes]"
    console: Path


@contextmanager
def booted(journal: Journal, host: Host, root: Path, bridge: str) -> Iterator[Machine]:
    """Start a machine; at the end it shuts down, by force after some seconds."""
    console = root.parent / "console.log"
    argv: list[str | Path] = ["systemd-nspawn", "--quiet", "--boot", "-D", root]
    argv += [f"--machine={host.machine}", f"--hostname={host.name}", f"--network-bridge={bridge}"]
    # PID 1 of this machine may not be systemd, so nobody is asked to register anything.
    argv += ["--register=no", "--keep-unit", "--resolv-conf=off", "--timezone=off"]
    argv += ["--link-journal=no"]
    with own_group(journal, host.machine) as enter:
        process = _start([*enter, "/bin/sh", "-c", KEEPER, "keeper", *argv], console)
        pid = str(process.pid)
        with journal.keep("process", pid=pid, started_at=started_at(process.pid)):
            yield Machine(host, process, console)


def _start(argv: Sequence[str | Path], console: Path) -> "subprocess.Popen[bytes]":
    # The process gets a session of its own: Ctrl-C is for the lab, which then ends it in order.
    with console.open("wb") as output:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_until_up(shell: Shell, ssh: Ssh, machine: Machine) -> float:
    """Wait until a host has booted and answers on SSH; return how long that took, in seconds.

    Raises:
        LabProblem: It ended, did not answer in time, or has failed units.
    """
    began = time.monotonic()
    host = machine.host
    while time.monotonic() < began + BOOT_TIMEOUT_S:
        if machine.process.poll() is not None:
            said = machine.console.read_text(encoding="utf-8", errors="replace")
            raise LabProblem(f"{host.name} did not boot:\n{said[-2000:]}")
        done = ssh.run(host, "systemctl is-system-running --wait", check=False)
        if done.output.strip() == "running":
            return time.monotonic() - began
        if done.output.strip() == "degraded":
            failed = ssh.run(host, "systemctl --failed --no-legend; journalctl -b -p err").output
            raise LabProblem(f"{host.name} booted with failed units:\n{failed}")
        time.sleep(0.3)
    shell.transcript.write(machine.console.read_text(encoding="utf-8", errors="replace"))
    raise LabProblem(f"{host.name} did not answer on SSH within {BOOT_TIMEOUT_S:g} s")
