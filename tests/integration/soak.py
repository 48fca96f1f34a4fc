"""Does the gateway give its memory back? Run by hand as `scripts/soak`, and briefly by a test.

A simulated Ollama and `arriero serve` run as processes. After a warm-up the gateway's resident
memory is read from /proc, again after many requests (half of them streamed), and again after
streams that were abandoned in the middle.
"""

import argparse
import asyncio
import re
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import uvloop
from tests.cli.processes import KEY, process, simulated_ollama, write_config
from tests.integration.asking import CHAT, Answer, Asked, body_of, get, request_bytes

CONNECTIONS = 32
WARM_UP_REQUESTS = 1000
WARM_UP_ABANDONED = 100
MODELS = {"fast": "fast:1b", "slow": "slow:1b"}  # the slow one is for streams to be left
_RSS = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)


class Figures(NamedTuple):
    """Resident memory in KiB at each stage, and what must be nothing at the end."""

    idle_kib: int
    warm_kib: int
    requests_kib: int
    abandoned_kib: int
    failed: int
    in_flight: int

    @property
    def grown_kib(self) -> int:
        return max(self.requests_kib, self.abandoned_kib) - self.warm_kib


def rss_kib(pid: int) -> int:
    """Return a process's resident memory."""
    found = _RSS.search(Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


async def shared(total: int, work: Callable[[int], Coroutine[Any, Any, int]]) -> int:
    """Split `total` among as many workers as there are connections; return the sum of theirs."""
    share, rest = divmod(total, CONNECTIONS)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work(share + (at < rest))) for at in range(CONNECTIONS)]
    return sum(task.result() for task in tasks)


async def requests(port: int, total: int) -> int:
    """Send requests on kept connections; return how many failed."""
    bodies = [
        request_bytes(
            body_of(model="fast", stream=stream, text="in 8 words"), CHAT, key=KEY, close=False
        )
        for stream in (False, True)
    ]

    async def work(count: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        failed = 0
        async with Asked(reader, writer) as asked:
            for number in range(count):
                writer.write(bodies[number % 2])
                failed += not (await asked.answer()).good
        return failed

    return await shared(total, work)


async def abandoned(port: int, total: int) -> int:
    """Leave streams after their first token."""
    body = request_bytes(body_of(model="slow", stream=True, text="in 3000 words"), CHAT, key=KEY)

    async def work(count: int) -> int:
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            async with Asked(reader, writer) as asked:
                writer.write(body)
                await asked.until(b'"content"')
        return 0

    return await shared(total, work)


async def at_rest(port: int) -> int:
    """Return what is in flight, once it is nothing or after a while."""
    in_flight = 1
    for _ in range(200):
        status: Answer = await get(port, "/arriero/status", key=KEY)
        in_flight = sum(host["in_flight"] for host in status.json["backends"])
        if not in_flight and not status.json["leftovers"]:
            break
        await asyncio.sleep(0.05)
    return in_flight


async def measure(pid: int, port: int, count: int, leave: int) -> Figures:
    """Run the whole soak against a gateway that is ready."""
    idle_kib = rss_kib(pid)
    failed = await requests(port, min(WARM_UP_REQUESTS, count))
    await abandoned(port, min(WARM_UP_ABANDONED, leave))
    await at_rest(port)
    warm_kib = rss_kib(pid)
    failed += await requests(port, count)
    await at_rest(port)
    requests_kib = rss_kib(pid)
    await abandoned(port, leave)
    in_flight = await at_rest(port)
    return Figures(idle_kib, warm_kib, requests_kib, rss_kib(pid), failed, in_flight)


def soak(folder: Path, count: int, leave: int) -> Figures:
    """Start everything, measure, stop everything."""
    with simulated_ollama("fast:1b", "slow:1b,decode_tps=500") as backend:
        config = write_config(folder, [backend], MODELS)
        with process("arriero", "serve", "--config", str(config), "--port", "0") as running:
            assert running.stdout
            port = 0
            for line in running.stdout:
                found = re.search(r'"port":(\d+)', line)
                port = int(found[1]) if found else port
                if '"ready"' in line:
                    break
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(measure(running.pid, port, count, leave))


def main() -> int:
    """Run the long form and print its figures; 1 when memory or requests were lost."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--abandoned", type=int, default=1_000)
    parser.add_argument("--growth-kib-max", type=int, default=8_192)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = soak(Path(folder), options.requests, options.abandoned)
    for name, value in {**figures._asdict(), "grown_kib": figures.grown_kib}.items():
        sys.stdout.write(f"{name:14} {value:>10}\n")
    good = figures.grown_kib <= options.growth_kib_max and not figures.failed + figures.in_flight
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
