"""A whole set-up as a user has it: simulated Ollama hosts and `arriero serve`, as processes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

KEY = "sk-a-real-gateway-0123456789"
STOP_TIMEOUT_S = 20.0


@contextmanager
def process(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Run a module of arriero while the block runs; its end must come on SIGTERM, with code 0."""
    command = [sys.executable, "-m", *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True) as running:
        try:
            yield running
        finally:
            running.terminate()
            output, _ = running.communicate(timeout=STOP_TIMEOUT_S)
    assert running.returncode == 0, output


@contextmanager
def simulated_ollama(*models: str) -> Iterator[str]:
    """Run a simulated Ollama with these models; gives its address, which it prints first."""
    options = [word for model in models for word in ("--model", model)]
    with process("arriero.testing.ollama", "--port", "0", *options) as running:
        assert running.stdout
        yield running.stdout.readline().strip()


@contextmanager
def gateway(config: Path) -> Iterator[str]:
    """Run `arriero serve` on a free port until it says that it is ready; gives its address."""
    with process("arriero", "serve", "--config", str(config), "--port", "0") as running:
        assert running.stdout
        address = ""
        for line in running.stdout:
            event = json.loads(line)
            if event["event"] == "listening":
                address = f"http://127.0.0.1:{event['port']}"
            if event["event"] == "ready":
                break
        assert address, "the gateway ended before it was ready"
        yield address


def write_config(
    folder: Path,
    backends: list[str],
    models: dict[str, str],
    slots: int | None = None,
    **more: Any,
) -> Path:
    """Write a configuration of these backends and aliases; the access log goes to a file."""
    each = {} if slots is None else {"slots": slots}
    document = {
        "backends": [
            {"name": f"llm{n:02d}", "url": url, **each} for n, url in enumerate(backends, 1)
        ],
        "models": [
            {"name": alias, "model": model.partition(",")[0]} for alias, model in models.items()
        ],
        "access": {"master_key": KEY},
        "log": {"access": str(folder / "access.log")},
    } | more
    path = folder / "config.yaml"
    # JSON is YAML.
    path.write_bytes(msgspec.json.encode(document))
    return path


@contextmanager
def fleet(
    folder: Path,
    models: dict[str, str],
    hosts: int = 2,
    dead: tuple[str, ...] = (),
    **more: Any,
) -> Iterator[tuple[str, list[str]]]:
    """Run hosts with all these models and a gateway before them; gives its address and theirs.

    A model is written as the simulation's `--model` takes it. `dead` are addresses of further
    backends, where nobody answers; `more` are further sections of the configuration.
    """
    with ExitStack() as stack:
        backends = [stack.enter_context(simulated_ollama(*models.values())) for _ in range(hosts)]
        config = write_config(folder, [*backends, *dead], models, **more)
        yield stack.enter_context(gateway(config)), backends
