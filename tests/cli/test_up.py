"""`arriero up` as a process: before a simulated Ollama, and with the real embedded fleet."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cli.processes import simulated_ollama

from arriero.app.up import Standing
from arriero.cli.up import render
from arriero.config.settings import Backend
from arriero.embedded.package import ExtraMissing, require_all

STANDING = Standing(
    url="http://127.0.0.1:4000",
    master_key="sk-key",
    aliases=("one", "two"),
    backends=(Backend(name="a", url="http://h:1"),),
)
PIPE = subprocess.PIPE
STOP_TIMEOUT_S = 30.0
PATIENCE_S = 30.0
QUESTION = "What is the capital of France?"
CONCURRENCY = 24


class Running:
    """A running `arriero up` and what it has printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.printed = ""
        for line in process.stdout:
            self.printed += line
            if line.startswith("  -d "):
                break
        words = dict(line.split(None, 1) for line in self.printed.splitlines() if "  " in line)
        self.address = words["address"].strip()
        self.key = words["master"].removeprefix("key").strip()

    def ask(self, model: str, text: str) -> Any:
        body = {"model": model, "temperature": 0, "messages": [{"role": "user", "content": text}]}
        request = urllib.request.Request(
            f"{self.address}/chat/completions",
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=50) as response:
            return json.load(response)

    def status(self) -> Any:
        address = self.address.removesuffix("/v1")
        request = urllib.request.Request(
            f"{address}/arriero/status", headers={"Authorization": f"Bearer {self.key}"}
        )
        with urllib.request.urlopen(request, timeout=50) as response:
            return json.load(response)

    def children(self) -> list[int]:
        pid = self.process.pid
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(word) for word in listed.split()]


def wait_until(holds: Callable[[], bool]) -> None:
    """Ask again and again, because what is waited for happens in other processes."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up_s, "never happened"
        time.sleep(0.02)


@contextmanager
def running_up(ollama_host: str, **environment: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "arriero", "up", "--port", "0"]
    env = {**os.environ, "OLLAMA_HOST": ollama_host, **environment}
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True, env=env) as process:
        try:
            yield Running(process)
        finally:
            process.send_signal(signal.SIGINT)
            _, words = process.communicate(timeout=STOP_TIMEOUT_S)
    assert process.returncode == 0, words
    assert "Traceback" not in words


def test_the_call_that_is_shown_can_be_pasted() -> None:
    text = render(STANDING)
    assert "address     http://127.0.0.1:4000/v1\n" in text
    assert "models      one, two\n" in text
    call = text.partition("curl ")[2]
    assert call.startswith("http://127.0.0.1:4000/v1/chat/completions \\\n")
    body = json.loads(call.rpartition("-d '")[2].strip().rstrip("'"))
    assert body["model"] == "one"
    assert "-H 'Authorization: Bearer sk-key'" in call


def test_it_fronts_the_ollama_that_answers() -> None:
    with simulated_ollama("llama3:8b") as url, running_up(url) as running:
        assert running.key.startswith("sk-")
        answer = running.ask("llama3:8b", "Hello")
        assert answer["choices"][0]["finish_reason"] in {"stop", "length"}
        assert running.children() == []


def test_wrong_use_is_told_with_a_way_out() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "arriero", "up"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OLLAMA_HOST": "box:port"},
    )
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert "error: OLLAMA_HOST is no address" in ran.stderr
    assert "hint: host, host:port or scheme://host:port" in ran.stderr


@pytest.fixture(scope="module")
def embedded() -> Iterator[Running]:
    """Run the real embedded fleet, where the extra is installed."""
    try:
        require_all()
    except ExtraMissing as missing:
        pytest.skip(str(missing))
    with (
        tempfile.TemporaryDirectory(prefix="arriero-cache-") as cache,
        running_up("127.0.0.1:1", XDG_CACHE_HOME=cache) as running,
    ):
        yield running


def test_without_ollama_a_real_model_answers(embedded: Running) -> None:
    assert len(embedded.children()) == 2
    answer = embedded.ask("smollm2", QUESTION)
    assert "Paris" in answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] > 0


def test_a_backend_killed_while_requests_run_fails_none(embedded: Running) -> None:
    embedded.ask("smollm2", QUESTION)
    doomed, other = embedded.children()
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        asked = [pool.submit(embedded.ask, "smollm2", QUESTION) for _ in range(CONCURRENCY)]
        wait_until(lambda: all(one["in_flight"] for one in embedded.status()["backends"]))
        os.kill(doomed, signal.SIGKILL)
        answers = [one.result()["choices"][0]["message"]["content"] for one in asked]
    assert [answer for answer in answers if "Paris" not in answer] == []
    backends = embedded.status()["backends"]
    assert [one["in_flight"] for one in backends] == [0, 0]
    # What the dead one had begun was asked of the other: more leases than requests, of which there
    # was one before these.
    assert sum(one["served"] for one in backends) > CONCURRENCY + 1
    wait_until(lambda: len(embedded.children()) == 2)  # it is started again
    assert other in embedded.children()
