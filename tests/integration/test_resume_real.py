"""With a real model: a stream whose servers are killed says what an undisturbed one says.

The answers are greedy, so the same words are due whoever computes them, and every difference in
how the begun text comes apart into tokens would show.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.arena import ALIAS, Running, eventually, serving, settings
from tests.integration.asking import Asked, ask, asking, body_of

from arriero.config.settings import Timeouts
from arriero.core.prefill import template_of
from arriero.embedded.package import MODEL_NAME, ExtraMissing, require_all

VERIFIES = True
READY_TIMEOUT_S = 60.0
PROMPT = "Write a short letter to a friend about a mule that crosses a bridge."
# After how many pieces the servers die. One more stands ready than die.
DEATHS = [(7,), (5, 14)]
TIMEOUTS = Timeouts(
    connect_s=2, load_s=30, first_token_s=30, inter_token_s=30, response_s=60, total_s=60
)


class Server:
    """One server of the embedded fleet, to be killed."""

    def __init__(self, cache: Path) -> None:
        command = [sys.executable, "-m", "arriero.embedded", "--parent-pid", str(os.getpid())]
        env = {**os.environ, "XDG_CACHE_HOME": str(cache)}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
        assert self.process.stdout is not None
        word, _, self.url = self.process.stdout.readline().strip().partition(" ")
        assert word == "ready", "it ended before it was ready"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        self.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture
def servers(cache: Path, deaths: tuple[int, ...]) -> Iterator[list[Server]]:
    """Run servers with a real model, where the extra is installed."""
    try:
        require_all()
    except ExtraMissing as missing:
        pytest.skip(str(missing))
    with contextlib.ExitStack() as stack:
        started = []
        for _ in range(len(deaths) + 1):
            started.append(Server(cache))
            stack.callback(started[-1].end)
        yield started


async def until_pieces(asked: Asked, count: int) -> None:
    """Read on until so many pieces of text have come."""
    give_up_s = time.monotonic() + READY_TIMEOUT_S
    while asked.seen.count(b'"content"') < count:
        assert time.monotonic() < give_up_s
        data = await asked.reader.read(65_536)
        assert data, asked.seen[-300:]
        asked.seen += data


def serving_host(running: Running, servers: list[Server]) -> Server:
    """Return the server that has the request."""
    (busy,) = [at for at, name in enumerate("abc"[: len(servers)]) if running.host(name).in_flight]
    return servers[busy]


async def verified(running: Running) -> None:
    gateway = running.gateway
    target = gateway.runtime.fleet.aliases[ALIAS].targets[0]

    def known() -> bool:
        template = template_of(target.host, target.model)
        return template is not None and gateway.verdicts.get(template) is not None

    await eventually(known, "a verdict about the template")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("deaths", DEATHS)
async def test_a_killed_server_changes_no_word(
    servers: list[Server], deaths: tuple[int, ...]
) -> None:
    body = body_of(text=PROMPT, stream=True, temperature=0, max_tokens=24)
    body["stream_options"] = {"include_usage": True}
    config = settings(
        *[server.url for server in servers], aliases={ALIAS: MODEL_NAME}, timeouts=TIMEOUTS
    )
    async with serving(config) as running:
        whole = await ask(running.port, body=body)
        assert whole.good
        assert len(whole.text) > 40
        await verified(running)
        async with asking(running.port, body) as asked:
            for pieces in deaths:
                await until_pieces(asked, pieces)
                serving_host(running, servers).kill()
            answer = await asked.answer()
        assert answer.good, answer
        assert answer.text == whole.text
        usages = [event["usage"] for event in answer.events[:-1] if event.get("usage")]
        told = [event["usage"] for event in whole.events[:-1] if event.get("usage")]
        counts = ("prompt_tokens", "completion_tokens")
        assert [usages[0][key] for key in counts] == [told[0][key] for key in counts]
        resumed = running.gateway.metrics.resumptions.counts
        assert resumed == {("resumed",): len(deaths)}
