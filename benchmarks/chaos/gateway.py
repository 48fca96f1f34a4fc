"""The gateway under test as a process, and what it says of itself."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.chaos.backends import MODEL
from benchmarks.chaos.clients import ALIAS, KEY
from benchmarks.ports import ask

STOP_TIMEOUT_S = 40.0
# A hanging host is found out within these; a stream must not live so long that it is hit thrice.
TIMEOUTS = {"connect_s": 1, "load_s": 5, "first_token_s": 3, "inter_token_s": 3, "response_s": 10}
_HEADERS = {"Authorization": f"Bearer {KEY}"}
_SAMPLE = re.compile(r"^(\w+)(\{[^}]*\})? ([-+.\deEinfNa]+)$", re.MULTILINE)
_RSS = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)
# What must be nothing when nobody asks for anything. One connection is the one that asks.
RESTING = {
    "arriero_requests_open": 1.0,
    "arriero_streams_open": 0.0,
    "arriero_client_connections": 1.0,
    "arriero_backend_in_flight": 0.0,
    "arriero_queue_depth": 0.0,
}


class Gateway:
    """A running gateway."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._pid = process.pid
        self.port = port

    def rss_kib(self) -> int:
        """Return its resident memory."""
        found = _RSS.search(Path(f"/proc/{self._pid}/status").read_text())
        return int(found[1]) if found else 0

    def status(self) -> Any:
        """Return `/arriero/status`."""
        return json.loads(ask(self.port, "/arriero/status", headers=_HEADERS)[1])

    def metrics(self) -> dict[str, float]:
        """Return all samples of `/metrics` by name and labels."""
        return samples(ask(self.port, "/metrics", headers=_HEADERS)[1])


def samples(page: str) -> dict[str, float]:
    """Return the samples of a page of metrics."""
    return {name + labels: float(value) for name, labels, value in _SAMPLE.findall(page)}


def summed(metrics: dict[str, float], family: str) -> dict[str, float]:
    """Return a family's samples by their labels."""
    return {
        key.removeprefix(family).strip("{}"): value
        for key, value in metrics.items()
        if key == family or key.startswith(family + "{")
    }


def unrest(metrics: dict[str, float], status: Any) -> list[str]:
    """Say what is still counted although nothing is going on."""
    found = [
        f"{family}{{{labels}}} = {value:g}"
        for family, allowed in RESTING.items()
        for labels, value in summed(metrics, family).items()
        if value > allowed
    ]
    if status["leftovers"]:
        found.append(f"leftovers = {status['leftovers']}")
    return found


def config_of(urls: Sequence[str], slots: int, log: Path) -> dict[str, object]:
    """Return the configuration: every backend may be tried once for each request.

    The model is kept loaded everywhere: else all would stay with the hosts that were never hit,
    and few streams would ever be broken.
    """
    return {
        "backends": [
            {"name": f"b{number}", "url": url, "slots": slots} for number, url in enumerate(urls, 1)
        ],
        "models": [
            {
                "name": ALIAS,
                "model": MODEL.name,
                "retries": len(urls),
                "keep_loaded": len(urls),
            }
        ],
        "timeouts": TIMEOUTS,
        "routing": {"inventory_interval_s": 1, "ejection_s": 1, "ejection_max_s": 4},
        "access": {"master_key": KEY},
        "log": {"access": str(log)},
    }


@contextmanager
def serving(folder: Path, urls: Sequence[str], slots: int) -> Iterator[Gateway]:
    """Run a gateway until the block ends; its own log goes to `gateway.log` in the folder."""
    config = folder / "config.yaml"
    # JSON is YAML.
    config.write_text(json.dumps(config_of(urls, slots, folder / "access.log")))
    log = folder / "gateway.log"
    command = [sys.executable, "-m", "arriero", "serve", "--config", str(config), "--port", "0"]
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, stdout=errors, stderr=subprocess.STDOUT) as process,
    ):
        try:
            yield Gateway(process, _port(process, log))
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    """Wait until it is ready and return its port."""
    while process.poll() is None:
        text = log.read_text()
        found = re.search(r'"port":(\d+)', text)
        if found and '"event":"ready"' in text:
            return int(found[1])
    raise RuntimeError(f"the gateway ended before it was ready: {log.read_text()[-2000:]}")
