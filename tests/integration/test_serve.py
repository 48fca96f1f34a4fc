"""`arriero serve` as a process: starts, is small, reloads, drains, ends."""

import asyncio
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cli.processes import KEY, process, simulated_ollama, write_config
from tests.integration.asking import ask, asking, body_of
from tests.integration.soak import rss_kib, soak

MODEL = "llama3:8b"
IDLE_KIB_MAX = 80 * 1024


@contextmanager
def served(config: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A gateway that is ready, and its port."""
    with process("arriero", "serve", "--config", str(config), "--port", "0") as running:
        assert running.stdout
        port = 0
        for line in running.stdout:
            found = re.search(r'"port":(\d+)', line)
            port = int(found[1]) if found else port
            if '"ready"' in line:
                break
        yield running, port


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {KEY}"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def until(running: subprocess.Popen[str], event: str) -> dict[str, object]:
    """Read the log up to an event."""
    assert running.stdout
    for line in running.stdout:
        told: dict[str, object] = json.loads(line)
        if told["event"] == event:
            return told
    raise AssertionError(f"never told: {event}")


def test_it_starts_ready_and_small_and_ends_on_sigterm(tmp_path: Path) -> None:
    with simulated_ollama(MODEL) as backend:
        config = write_config(tmp_path, [backend], {"llama": MODEL})
        with served(config) as (running, port):
            assert get(port, "/health/readiness")[0] == 200
            assert rss_kib(running.pid) < IDLE_KIB_MAX
            running.send_signal(signal.SIGTERM)
            assert until(running, "stopped")["unfinished"] == 0
            assert running.wait(10) == 0


def test_sigterm_lets_a_stream_finish_and_takes_nothing_new(tmp_path: Path) -> None:
    with simulated_ollama(f"{MODEL},decode_tps=100") as backend:
        config = write_config(tmp_path, [backend], {"llama": MODEL})
        with served(config) as (running, port):

            async def stream() -> None:
                body = body_of(stream=True, text="in 40 words")
                async with asking(port, body, key=KEY) as asked:
                    await asked.until(b'"content"')
                    running.send_signal(signal.SIGTERM)
                    await asyncio.to_thread(until, running, "draining")
                    answer = await asked.answer()
                assert answer.good

            asyncio.run(stream())
            with socket.socket() as late:
                assert late.connect_ex(("127.0.0.1", port)) != 0
            assert until(running, "stopped")["unfinished"] == 0
            assert running.wait(10) == 0


def test_sighup_reads_the_file_again_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    with simulated_ollama(MODEL) as backend:
        config = write_config(tmp_path, [backend], {"llama": MODEL})
        with served(config) as (running, port):
            write_config(tmp_path, [backend], {"llama": MODEL, "second": MODEL})
            running.send_signal(signal.SIGHUP)
            until(running, "reloaded")
            assert b'"second"' in get(port, "/v1/models")[1]
            good = config.read_text()
            config.write_text(good.replace('"backends"', '"backend"'))
            running.send_signal(signal.SIGHUP)
            refused = until(running, "reload refused")
            assert "config.yaml:1:" in str(refused["reason"])
            assert b'"second"' in get(port, "/v1/models")[1]


def ended(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "arriero", "serve", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_a_configuration_with_mistakes_is_told_with_positions(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("backends: [http://127.0.0.1:1]\nmodles: []\nserver: {port: many}\n")
    ran = ended("--config", str(config))
    assert ran.returncode == 1
    assert f"{config}:2:1:" in ran.stderr
    assert f"{config}:3:" in ran.stderr
    assert "hint:" in ran.stderr
    assert ran.stdout == ""


def test_a_port_that_is_taken_is_told_with_a_way_out(tmp_path: Path) -> None:
    config = write_config(tmp_path, ["http://127.0.0.1:1"], {"llama": MODEL})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ran = ended("--config", str(config), "--port", str(taken.getsockname()[1]))
    assert ran.returncode == 1
    assert "hint:" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_memory_comes_back_after_requests_and_abandoned_streams(tmp_path: Path) -> None:
    figures = soak(tmp_path, 3000, 300)
    assert figures.failed == 0
    assert figures.in_flight == 0
    assert figures.idle_kib < IDLE_KIB_MAX
    assert figures.grown_kib < 4096, figures


def test_a_dead_backend_in_the_file_keeps_nothing_from_starting(tmp_path: Path) -> None:
    with simulated_ollama(MODEL) as backend:
        config = write_config(tmp_path, ["http://127.0.0.1:1", backend], {"llama": MODEL})
        with served(config) as (_, port):
            answer = asyncio.run(ask(port, key=KEY))
            assert answer.good
