"""Several workers hold limits as one does: exactly, through kills, reloads and restarts."""

import asyncio
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from tests.cli.processes import KEY, process, write_config
from tests.integration.workers import Workers, burst, lines, workers

MODEL = "llama3:8b"
AT_ONCE = 16


@pytest.fixture
def backend() -> Iterator[str]:
    options = ["--model", f"{MODEL},decode_tps=400", "--num-parallel", str(AT_ONCE)]
    with process("arriero.testing.ollama", "--port", "0", *options) as gateway:
        assert gateway.stdout
        yield gateway.stdout.readline().strip()


@pytest.fixture
def config(tmp_path: Path, backend: str) -> Path:
    return write_config(tmp_path, [backend], {"llama": MODEL}, slots=AT_ONCE)


def limit_model(config: Path, **limits: int) -> None:
    document = json.loads(config.read_bytes())
    document["models"][0]["limits"] = limits
    config.write_text(json.dumps(document))


async def new_key(gateway: Workers, **fields: Any) -> str:
    with lines(gateway.port, 1) as (line,):
        status, made = await line.ask("/key/generate", fields)
    assert status == 200, made
    secret: str = made["key"]
    return secret


def admitted(answers: list[tuple[int, Any]]) -> int:
    statuses = [status for status, _ in answers]
    assert set(statuses) <= {200, 429}, statuses
    return statuses.count(200)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(true):  # noqa: ASYNC110 - polled
            await asyncio.sleep(0.02)


def running(backend: str, when: str) -> int:
    """Return how many requests the host has under way `now`, or had at the `most`."""
    with urlopen(f"{backend}/_sim/stats", timeout=20) as answer:
        found = json.loads(answer.read())["models"].get(MODEL)
    return int(found["running"][when]) if found else 0


async def replace_all(gateway: Workers) -> None:
    """Kill both workers, and wait for the next ones."""
    for worker in (0, 1):
        gateway.kill(worker)
    await asyncio.to_thread(gateway.wait_for, "ready", 4)


async def test_a_limit_of_a_model_is_exact_through_kills_and_reloads(config: Path) -> None:
    limit_model(config, requests_per_minute=60)
    with workers(config) as gateway:
        assert admitted(await burst(gateway.port, 40)) == 40
        await replace_all(gateway)
        assert admitted(await burst(gateway.port, 100)) == 20
        limit_model(config, requests_per_minute=70)
        gateway.send(signal.SIGHUP)
        await asyncio.to_thread(gateway.wait_for, "reloaded", 2)
        assert admitted(await burst(gateway.port, 40)) == 10


async def test_a_burst_at_all_workers_admits_the_limit_of_a_key(
    config: Path, tmp_path: Path
) -> None:
    with workers(config, "--state-directory", str(tmp_path / "state"), count=3) as gateway:
        secret = await new_key(gateway, rpm_limit=60)
        assert admitted(await burst(gateway.port, 200, secret)) == 60
        by_model = await new_key(gateway, model_rpm_limit={"llama": 7})
        assert admitted(await burst(gateway.port, 30, by_model)) == 7
        assert admitted(await burst(gateway.port, 30)) == 30, "the master key has no limit"


async def test_who_is_over_the_number_at_once_waits(
    config: Path, backend: str, tmp_path: Path
) -> None:
    with workers(config, "--state-directory", str(tmp_path / "state")) as gateway:
        secret = await new_key(gateway, max_parallel_requests=3)
        assert admitted(await burst(gateway.port, 60, secret)) == 60
        assert running(backend, "most") == 3


async def test_places_of_a_killed_worker_are_free(
    config: Path, backend: str, tmp_path: Path
) -> None:
    with workers(config, "--state-directory", str(tmp_path / "state")) as gateway:
        secret = await new_key(gateway, max_parallel_requests=1)
        async with asyncio.TaskGroup() as group:
            cut_off = group.create_task(is_cut_off(gateway.port, secret))
            await until(lambda: running(backend, "now") == 1)
            await replace_all(gateway)
            assert await cut_off
        assert admitted(await burst(gateway.port, 10, secret)) == 10


async def is_cut_off(port: int, secret: str) -> bool:
    """Ask for a long answer, and say whether it broke off."""
    with lines(port, 1, secret) as (line,):
        try:
            await line.chat("Say it in 9000 words")
        except (asyncio.IncompleteReadError, ConnectionError):
            return True
    return False


async def use_up(gateway: Workers, secret: str, left: int) -> list[int]:
    """Ask, each time on another connection, until refused; return the tokens of each answer.

    A refusal may come early, from a worker that does not know yet that the last answer was shorter
    than guessed; what is `left` must be used up all the same.
    """
    used: list[int] = []
    async with asyncio.timeout(30):
        while True:
            ((status, answer),) = await burst(gateway.port, 1, secret)
            if status == 200:
                used.append(answer["usage"]["total_tokens"])
                continue
            assert answer["error"]["code"] == "insufficient_quota"
            if sum(used) >= left:
                return used
            await asyncio.sleep(0.01)


async def test_a_budget_is_one_for_all_and_survives_a_restart(config: Path, tmp_path: Path) -> None:
    budget, options = 400, ("--state-directory", str(tmp_path / "state"))
    with workers(config, *options) as gateway:
        secret = await new_key(gateway, tpd_limit=budget)
        used = [
            answer["usage"]["total_tokens"]
            for _ in range(4)
            for _, answer in await burst(gateway.port, 1, secret)
        ]
        assert sum(used) < budget / 2, "counted twice, it would not be used up"
    with workers(config, *options) as gateway:
        await replace_all(gateway)
        used += await use_up(gateway, secret, budget - sum(used))
    assert sum(used[:-1]) < budget <= sum(used)


async def test_tokens_per_minute_are_counted_by_all(config: Path, tmp_path: Path) -> None:
    with workers(config, "--state-directory", str(tmp_path / "state")) as gateway:
        secret = await new_key(gateway, tpm_limit=3000)
        answers = await burst(gateway.port, 100, secret)
        # Reserved is the prompt and a usual answer, 256 tokens, until the answer is known.
        assert 3000 // 300 <= admitted(answers) < 100
        refused = next(answer for status, answer in answers if status == 429)
        assert "3000 tokens per minute" in refused["error"]["message"]
    assert KEY not in refused["error"]["message"]
