"""Several workers: exact slots, restarts, reloads and ends, with real processes."""

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from tests.cli.processes import process, write_config
from tests.integration.supervisor import Supervisor
from tests.integration.test_restart import Caller
from tests.integration.workers import Workers, workers

CLIENTS = 12
ANSWERS = 15
ALL = float(CLIENTS * ANSWERS)
MODEL = "llama3:8b"


@pytest.fixture
def backend() -> Iterator[str]:
    """A host that would take four at once: what is sent to it beyond one is seen."""
    options = ["--model", f"{MODEL},decode_tps=20000", "--num-parallel", "4"]
    with process("arriero.testing.ollama", "--port", "0", *options) as running:
        assert running.stdout
        yield running.stdout.readline().strip()


@pytest.fixture
def config(tmp_path: Path, backend: str) -> Path:
    return write_config(tmp_path, [backend], {"llama": MODEL})


@pytest.fixture
def running(config: Path) -> Iterator[Workers]:
    with workers(config) as found:
        yield found


def serve(config: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "arriero", "serve", "--config", str(config), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)


def refused(ran: subprocess.CompletedProcess[str], code: int) -> str:
    """Return the words of a run that must have ended in an error with a hint."""
    assert ran.returncode == code, ran.stderr
    assert "hint: " in ran.stderr
    return ran.stderr


def change(config: Path, **of_model: Any) -> None:
    """Add a model with these settings to a configuration."""
    document = json.loads(config.read_bytes())
    document["models"].append({"name": "second", "model": MODEL} | of_model)
    config.write_text(json.dumps(document))


async def working(backend: str, or_else: Callable[[], bool]) -> None:
    """Wait until the host works on a request."""
    async with asyncio.timeout(20):
        while not or_else() and not stats(backend)["models"][MODEL]["running"]["now"]:  # noqa: ASYNC110 - polled
            await asyncio.sleep(0.001)


def stats(backend: str) -> dict[str, Any]:
    with urlopen(f"{backend}/_sim/stats", timeout=20) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found


async def load(port: int) -> None:
    """Ask from many connections, which the kernel divides among the workers; all are answered."""
    callers = [Caller(port, stream=at % 2 == 0, keep=at % 3 > 0) for at in range(CLIENTS)]

    async def enough(caller: Caller) -> None:
        while caller.answers < ANSWERS:  # noqa: ASYNC110 - polled
            await asyncio.sleep(0.005)
        caller.over = True

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for caller in callers:
            group.create_task(caller.run())
            group.create_task(enough(caller))


def counted(page: bytes, sample: str) -> float:
    """Return the sum of a page's samples that begin so."""
    lines = [line for line in page.decode().splitlines() if line.startswith(sample)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


async def metrics_of_all(running: Workers, sample: str, holds: Callable[[float], bool]) -> None:
    """Wait for the others' page, which is up to a second old."""
    async with asyncio.timeout(20):
        while not holds(counted(await asyncio.to_thread(running.get, "/metrics"), sample)):  # noqa: ASYNC110 - polled
            await asyncio.sleep(0.05)


async def test_one_slot_is_one_whatever_number_of_workers(running: Workers, backend: str) -> None:
    await load(running.port)
    seen = stats(backend)
    assert seen["models"][MODEL]["running"]["most"] == 1
    await metrics_of_all(running, 'arriero_requests_total{alias="llama"', ALL.__le__)
    await metrics_of_all(running, "arriero_backend_in_flight", (0.0).__eq__)


async def test_a_killed_worker_is_replaced_and_its_counts_go_with_it(
    running: Workers, backend: str
) -> None:
    await load(running.port)
    sample = 'arriero_requests_total{alias="llama"'
    await metrics_of_all(running, sample, ALL.__le__)
    for lives, worker in enumerate((1, 0), start=3):
        # One that is killed in the middle of an answer held the only slot.
        async with asyncio.TaskGroup() as group:
            ended = group.create_task(cut_off(running.port))
            await working(backend, ended.done)
            running.kill(worker)
        await asyncio.to_thread(running.wait_for, "worker started", lives)
        await asyncio.to_thread(running.wait_for, "ready", lives)
        await load(running.port)
    page = await asyncio.to_thread(running.get, "/metrics")
    assert counted(page, sample) >= CLIENTS * ANSWERS  # those of the dead stay counted
    assert stats(backend)["models"][MODEL]["running"]["most"] == 1


async def cut_off(port: int) -> None:
    """Ask for one answer, which may break off."""
    caller = Caller(port, stream=True, keep=False)
    caller.over = False
    try:
        await caller._ask()
    except (asyncio.IncompleteReadError, ConnectionError):
        caller._leave()


async def test_a_reload_reaches_all(running: Workers, config: Path) -> None:
    change(config)
    running.send(signal.SIGHUP)
    await asyncio.to_thread(running.wait_for, "reloaded", 2)
    for _ in range(12):
        assert b'"second"' in await asyncio.to_thread(running.get, "/v1/models")
    await load(running.port)


def meet_peers(config: Path) -> None:
    document = json.loads(config.read_bytes())
    config.write_text(json.dumps(document | {"peers": {"url": "redis://127.0.0.1:1"}}))


def test_other_gateways_are_refused(config: Path) -> None:
    meet_peers(config)
    words = refused(serve(config, "--workers", "2"), 1)
    assert "`peers`" in words
    assert "--workers 1" in words


async def test_a_bad_file_changes_nothing(running: Workers, config: Path) -> None:
    meet_peers(config)
    running.send(signal.SIGHUP)
    told = await asyncio.to_thread(running.wait_for, "reload refused")
    assert "--workers 1" in told[0]["reason"]
    await load(running.port)


def test_a_second_gateway_is_not_let_in_beside_it(running: Workers, config: Path) -> None:
    words = refused(serve(config, "--port", str(running.port), "--workers", "2"), 1)
    assert "cannot listen on" in words


async def test_the_end_lets_answers_finish(config: Path, backend: str) -> None:
    with workers(config) as running:
        await load(running.port)
        callers = [Caller(running.port, stream=True, keep=False) for _ in range(4)]
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            for caller in callers:
                caller.over = False
                group.create_task(once(caller))
            await working(backend, lambda: all(caller.answers for caller in callers))
            running.send(signal.SIGTERM)
        assert await asyncio.to_thread(running.end) == 0
    with (
        pytest.raises(ConnectionRefusedError),
        socket.create_connection(("127.0.0.1", running.port)),
    ):
        pass


async def once(caller: Caller) -> None:
    await caller._ask()
    caller.answers += 1


async def test_no_request_fails_at_a_restart_under_systemd(config: Path, tmp_path: Path) -> None:
    with Supervisor(tmp_path, config, "--workers", "2") as supervised:
        idle = Caller(supervised.port, stream=True, keep=True)
        callers = [Caller(supervised.port, stream=True, keep=at > 1) for at in range(6)]

        async def served() -> None:
            goal = [caller.answers + 5 for caller in callers]
            while any(one.answers < most for one, most in zip(callers, goal, strict=True)):  # noqa: ASYNC110 - polled
                await asyncio.sleep(0.01)

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            await once(idle)
            for caller in callers:
                group.create_task(caller.run())
            await served()
            await asyncio.to_thread(supervised.reload)
            await served()
            await asyncio.to_thread(supervised.restart)
            await served()
            for caller in callers:
                caller.over = True
            await once(idle)
        assert idle.connections == 1
        assert supervised.handed_over > 0
        idle._leave()


def test_a_store_that_cannot_be_had_ends_all(config: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "file"
    nowhere.touch()
    words = refused(serve(config, "--workers", "2", "--state-directory", str(nowhere)), 1)
    assert "cannot use the store" in words


def test_what_keeps_a_worker_from_serving_ends_all(config: Path, tmp_path: Path) -> None:
    document = json.loads(config.read_bytes())
    files = {"certificate": str(tmp_path / "tls.crt"), "key": str(tmp_path / "tls.key")}
    config.write_text(json.dumps(document | {"server": {"tls": files}}))
    assert "cannot use the certificate" in refused(serve(config, "--workers", "2"), 1)


def test_workers_do_not_outlive_their_supervisor(config: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "arriero", "serve", "--config", str(config), "--port", "0"]
    command += ["--workers", "2"]
    own = os.environ | {"TMPDIR": str(tmp_path)}  # who is killed cannot tidy up
    with subprocess.Popen(command, env=own, stderr=subprocess.PIPE, text=True) as process:
        running = Workers(process)
        watches = [os.pidfd_open(running.pid(worker)) for worker in (0, 1)]
        process.kill()
        assert running.end() == -signal.SIGKILL
        for watch in watches:
            assert select.select([watch], [], [], 20)[0]  # readable once the process has ended
            os.close(watch)
