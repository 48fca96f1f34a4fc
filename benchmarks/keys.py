"""`python -m benchmarks.keys`: what 100,000 virtual keys cost.

How long a gateway with that many takes to start, how much memory each takes, and how much more
processor time a request costs than at a gateway that has the master key and nothing else. Both run
all the time and are asked in turn; nginx answers, wrk asks, as in `python -m benchmarks`. Of the
gateway with keys three things are asked: by the master key, which adds the writing of usage; by a
key without limits; and by one with limits of every kind.
"""

import argparse
import json
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec

from arriero.config.settings import Limits
from arriero.core.keys import Key, digest, hint
from arriero.store.opening import open_store
from benchmarks import bodies, gateways, machine, measure, process
from benchmarks.__main__ import cores_of
from benchmarks.gateways import CHAT, Site
from benchmarks.install import Installed, NotInstalled, arriero, say
from benchmarks.paths import HERE, WORK
from benchmarks.ports import NotReady, free_ports, wait_for_200
from benchmarks.process import Server
from benchmarks.rig import Cores, Mock, Rig, RigBroken, Target, allow_many_files, find_tools

OUTPUT = HERE / "results" / "keys.json"
SETTLE_S = 0.8  # until usage and the access log are written
READY_LIMIT_S = 60.0
STARTS = 5
PEPPER = b"\x07" * 32
PLAIN, LIMITED = "sk-plain-0123456789abcdef", "sk-limited-0123456789abcdef"
# Of every kind, and none that is ever reached.
LIMITS = Limits(
    requests_per_minute=1_000_000,
    tokens_per_minute=100_000_000,
    concurrent=10_000,
    tokens_per_day=1_000_000_000_000,
    tokens_per_month=1_000_000_000_000,
)
TARGETS = {"start_s": 2.0, "bytes_per_key": 1000.0, "more_cpu": 0.10}


@dataclass(frozen=True)
class Asked:
    """What one column of the table asks: a gateway, by a key."""

    name: str
    server: Server
    target: Target


def main(arguments: Sequence[str]) -> int:
    """Measure, print and write; 1 when a target was missed."""
    options = parse(arguments)
    try:
        allow_many_files()
        tools = find_tools()
        installed = arriero(worktree=options.worktree, name="arriero-keys")
    except (NotInstalled, RigBroken) as problem:
        say(f"error: the rig cannot run: {problem}")
        return 3
    rig = Rig(tools, cores_of(options), WORK / "run-keys")
    found = {"machine": machine.facts(), "arriero": dict(installed.facts), "keys": options.keys}
    mock = rig.start_nginx()
    try:
        found |= measured(Bench(rig, mock, installed, options.keys), options)
    except NotReady as problem:
        say(f"error: a gateway did not start: {problem}")
        return 3
    finally:
        mock.server.stop()
    report = _report(found)
    print(report)
    if options.output is not None:
        options.output.write_text(json.dumps(found, indent=1) + "\n")
        say(f"wrote {options.output}")
    return 1 if "FAIL" in report else 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.keys", description=__doc__)
    add = parser.add_argument
    add("--keys", type=int, default=100_000, help="how many there are")
    add("--seconds", type=float, default=3.0, help="length of each measurement")
    add(
        "--rounds", type=int, default=3, help=f"how often all are asked, after {STARTS} starts each"
    )
    add("--worktree", action="store_true", help="measure arriero's files as they are, uncommitted")
    add("--gateway-core", type=int, help="the core of the gateways (default: the first)")
    add("--load-core", type=int, help="the core of everything else (default: the second)")
    add("--output", type=Path, help=f"where the JSON goes, such as {OUTPUT.name}")
    return parser.parse_args(arguments)


class Bench:
    """The two gateways, and how they are started."""

    def __init__(self, rig: Rig, mock: Mock, installed: Installed, keys: int) -> None:
        self.rig = rig
        self._mock = mock
        self._installed = installed
        self._stores = {"few": self._store("few", 0), "many": self._store("many", keys)}

    @property
    def cores(self) -> Cores:
        """Where everything runs."""
        return self.rig.cores

    def _store(self, name: str, keys: int) -> Path:
        path = self.rig.folder / f"{name}.db"
        fill(path, keys)
        return path

    @contextmanager
    def running(self, name: str) -> Iterator[tuple[Server, Target, float]]:
        """Start a gateway with this store, or without any; tell when it was ready."""
        (port,) = free_ports(1)
        folder = self.rig.folder / (name or "none")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        site = Site(port, self._mock.ports, folder, self._installed)
        more = f"store:\n  url: sqlite:///{self._stores[name]}\n" if name else ""
        launch = gateways.arriero(site, "ollama", more)
        log = folder / "output.log"
        server = process.start(
            launch.argv, core=self.cores.gateway, log=log, env=launch.env, folder=folder
        )
        try:
            ready_s = wait_for_200(server, port, ("/health/readiness", None, {}), READY_LIMIT_S)
            target = Target(port, measure.client_headers({}))
            question = bodies.question("Are you there?", stream=False)
            wait_for_200(server, port, (CHAT, question, target.headers), READY_LIMIT_S)
            yield server, target, ready_s
        finally:
            server.stop()


def fill(path: Path, keys: int) -> None:
    """Make a store with two keys that are used and so many others."""
    store = open_store(f"sqlite:///{path}")
    pepper = store.pepper(PEPPER)
    store.close()
    used = [
        Key(id="key-plain", digest=digest(PLAIN.encode(), pepper), alias="plain"),
        Key(id="key-limited", digest=digest(LIMITED.encode(), pepper), alias="l", limits=LIMITS),
    ]
    encode = msgspec.json.Encoder().encode
    with sqlite3.connect(path) as connection:
        connection.executemany(
            "insert into keys (id, digest, alias, document) values (?, ?, ?, ?)",
            (
                (key.id, key.digest, key.alias, encode(key).decode())
                for key in (*used, *(somebodys(number, pepper) for number in range(keys)))
            ),
        )
    connection.close()


def somebodys(number: int, pepper: bytes) -> Key:
    """Return a key as people make them: with a name, an owner, an end and limits."""
    secret = f"sk-somebody-{number:032}"
    return Key(
        id=f"key-{number:020x}",
        digest=digest(secret.encode(), pepper),
        hint=hint(secret),
        alias=f"team-{number // 10}-member-{number}",
        owner=f"member-{number}@example.org",
        models=("llama3*", "phi"),
        expires_unix_s=2_000_000_000.0 + number,
        limits=Limits(requests_per_minute=60, tokens_per_day=1_000_000),
        tags=("students",),
        created_unix_s=1_800_000_000.0,
        created_by="master",
    )


def measured(bench: Bench, options: argparse.Namespace) -> dict[str, object]:
    """Take all figures."""
    starts: dict[str, list[float]] = {"few": [], "many": []}
    rss: dict[str, list[float]] = {"few": [], "many": []}
    rounds: list[dict[str, float]] = []
    for _ in range(STARTS):
        for name, seconds in starts.items():
            with bench.running(name) as (server, _, ready_s):
                seconds.append(ready_s)
                rss[name].append(server.rss_mb())
        say(f"started: {starts['few'][-1]:.2f} s with 2 keys, {starts['many'][-1]:.2f} s with all")
        rounds += some_rounds(bench, options)
    cpu_us = {name: median(found[name] for found in rounds) for name in rounds[0]}
    bytes_per_key = (median(rss["many"]) - median(rss["few"])) * 1e6 / options.keys
    more = compared(rounds)
    return {
        "start_s": median(starts["many"]),
        "start_s_2_keys": median(starts["few"]),
        "bytes_per_key": bytes_per_key,
        "cpu_us": cpu_us,
        "more": more,
        "more_cpu": list(more.values())[-1],
        "rounds": rounds,
        "starts": starts,
    }


def some_rounds(bench: Bench, options: argparse.Namespace) -> list[dict[str, float]]:
    """Ask both gateways, newly started: by where its memory lies, one differs from the next."""
    with bench.running("") as (alone, master, _), bench.running("many") as (many, same, _):
        columns = [
            Asked("master key only", alone, master),
            Asked("master key, usage written", many, same),
            Asked("key without limits", many, by(same, PLAIN)),
            Asked("key with limits", many, by(same, LIMITED)),
        ]
        return [one_round(bench, columns, options.seconds) for _ in range(options.rounds)]


def compared(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return by which part each costs more than the first, in the median of the rounds.

    Within a round: what else the machine does changes from one to the next.
    """
    first = next(iter(rounds[0]))
    return {name: median(found[name] / found[first] - 1 for found in rounds) for name in rounds[0]}


def by(target: Target, secret: str) -> Target:
    """Return the same address, asked with another key."""
    return Target(target.port, {**target.headers, "Authorization": f"Bearer {secret}"})


def one_round(bench: Bench, columns: Sequence[Asked], seconds: float) -> dict[str, float]:
    """Ask all once; return microseconds of processor time per request."""
    found = {}
    for one in columns:
        bench.rig.wrk(one.target, 32, 1)
        time.sleep(SETTLE_S)
        before_s = one.server.cpu_s()
        result = bench.rig.wrk(one.target, 32, seconds)
        time.sleep(SETTLE_S)
        if result.errors or not result.requests:
            raise RigBroken(f"{one.name}: {result.errors} errors in {result.requests} requests")
        found[one.name] = (one.server.cpu_s() - before_s) / result.requests * 1e6
    say(", ".join(f"{name} {cpu_us:.1f} us" for name, cpu_us in found.items()))
    return found


def _report(found: dict[str, object]) -> str:
    cpu_us, more = found["cpu_us"], found["more"]
    assert isinstance(cpu_us, dict)
    assert isinstance(more, dict)
    lines = [f"{'':28}us a request"]
    for name, value in cpu_us.items():
        lines.append(f"{name:28}{value:8.1f}  {more[name]:+.1%}")
    lines += [
        f"ready after                 {found['start_s']:8.2f} s",
        f"with 2 keys                 {found['start_s_2_keys']:8.2f} s",
        f"memory of a key             {found['bytes_per_key']:8.0f} bytes",
    ]
    for name, most in TARGETS.items():
        value = found[name]
        assert isinstance(value, float)
        lines.append(f"{'pass' if value <= most else 'FAIL'}: {name} {value:.3g}, at most {most:g}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
