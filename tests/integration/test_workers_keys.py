"""Several workers serve one set of keys, and write one account of what was used."""

import asyncio
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.cli.processes import simulated_ollama, write_config
from tests.integration.workers import burst, lines, workers
from tests.store.conftest import postgresql, prepared_database, prepared_file, url

from arriero.store.opening import open_store
from arriero.store.port import UsageQuery

__all__ = ["postgresql", "prepared_database", "prepared_file", "url"]

LINES = 12  # all of them with one of two workers: once in 2048 runs
HOLDS_S = 1.0


@pytest.fixture
def config(tmp_path: Path, url: str) -> Iterator[Path]:
    with simulated_ollama("llama3:8b,decode_tps=20000") as backend:
        models = {"llama": "llama3:8b"}
        yield write_config(tmp_path, [backend], models, slots=16, store={"url": url})


def used(url: str) -> tuple[int, int]:
    """Return how many requests stand in the store, by day and each."""
    store = open_store(url)
    days = store.usage_days(UsageQuery(rows_max=100, group_by=()))
    each = store.usage_requests(UsageQuery(rows_max=10_000))
    store.close()
    return sum(day.requests for day in days), len(each)


async def soon(ask: Callable[[], Awaitable[object]], wanted: object) -> float:
    """Ask until the answer is as wanted; return how long that took, in seconds."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    async with asyncio.timeout(30):
        while await ask() != wanted:  # noqa: ASYNC110 - polled
            await asyncio.sleep(0.02)
    return loop.time() - began_s


async def test_a_key_is_the_same_at_all_workers(config: Path) -> None:
    """Made, blocked, let in again and revoked: through one worker, and on the machine."""
    with workers(config) as gateway, lines(gateway.port, LINES) as office:
        _, made = await office[0].ask("/key/generate", {"key_alias": "team"})
        with lines(gateway.port, LINES, made["key"]) as clients:

            async def told() -> set[int]:
                return {(await client.ask("/v1/models"))[0] for client in clients}

            assert await told() == {200}, "a new key is good everywhere at once"
            for path, body, wanted in (
                ("/key/block", {"key": made["key"]}, {401}),
                ("/key/unblock", {"key": made["key"]}, {200}),
                ("/key/delete", {"keys": [made["key"]]}, {401}),
            ):
                assert (await office[1].ask(path, body))[0] == 200
                # Looks are half a second apart; a machine that stands still may add to that.
                assert await soon(told, wanted) < HOLDS_S + 4
        assert len(await made_beside(config, "beside")) > 20
        found = [await line.ask("/key/list") for line in office]
        assert [answer["total_count"] for _, answer in found] == [1] * LINES
        _, audit = await office[0].ask("/audit")
        actions = [entry["action"] for entry in audit["entries"]]
        assert actions == ["create", "delete", "unblock", "block", "create"]


async def made_beside(config: Path, alias: str) -> str:
    """Make a key on the store itself, beside the service."""
    command = [sys.executable, "-m", "arriero", "keys", "create", "--alias", alias]
    ran = await asyncio.to_thread(
        subprocess.run,
        [*command, "--config", str(config)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return ran.stdout.strip()


async def test_usage_of_all_workers_is_written(config: Path, url: str) -> None:
    with workers(config) as gateway:
        answers = await burst(gateway.port, 60)
        assert {status for status, _ in answers} == {200}

        await soon(lambda: asyncio.to_thread(used, url), (60, 60))
        gateway.kill(0)
        gateway.kill(1)
        await asyncio.to_thread(gateway.wait_for, "ready", 4)
        assert used(url) == (60, 60), "what stands there stays"
        await burst(gateway.port, 40)
        # The block's end is a SIGTERM.
    assert used(url) == (100, 100)


def test_one_of_the_workers_prepares_an_empty_store(tmp_path: Path) -> None:
    """All of them would find no schema, and make it at the same time."""
    state = tmp_path / "state"
    with simulated_ollama("llama3:8b") as backend:
        config = write_config(tmp_path, [backend], {"llama": "llama3:8b"})
        with workers(config, "--state-directory", str(state), count=4) as gateway:
            assert json.loads(gateway.get("/key/list"))["total_count"] == 0
    assert (state / "arriero.db").exists()
    shutil.rmtree(state)


def test_the_end_may_come_while_workers_wait_for_the_first(tmp_path: Path) -> None:
    """The first one waits for a store that is locked; the others for it."""
    path = tmp_path / "store.db"
    open_store(f"sqlite:///{path}").close()
    store = {"url": f"sqlite:///{path}"}
    config = write_config(tmp_path, ["http://127.0.0.1:1"], {"llama": "m"}, store=store)
    command = [sys.executable, "-m", "arriero", "serve", "--config", str(config), "--port", "0"]
    command += ["--workers", "2"]
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as locked,
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as gateway,
    ):
        locked.execute("begin exclusive")
        assert gateway.stderr
        started = 0
        while started < 2:
            started += '"worker started"' in gateway.stderr.readline()
        gateway.send_signal(signal.SIGTERM)
        locked.execute("rollback")
        gateway.communicate(timeout=60)
    assert gateway.returncode == 0
