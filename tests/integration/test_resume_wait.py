"""A stream that nobody can go on with at this moment waits for a host that comes back."""

import contextlib
from asyncio import TaskGroup
from collections.abc import AsyncIterator

import msgspec
import pytest
from tests.integration.arena import ALIAS, CALM, STEADY, Running, eventually, serving, settings, sim
from tests.integration.asking import Answer, Asked, ask, asking, body_of

from arriero.config.settings import Server
from arriero.core.prefill import template_of
from arriero.testing.ollama import OllamaSim

VERIFIES = True  # these tests need verdicts about templates
HEARTBEAT = b": waiting"
LONG = "Say it in 60 words"
# Hosts are looked at all the time, so that one that comes back is seen.
WATCHED = msgspec.structs.replace(CALM, inventory_interval_s=0.05, inventory_timeout_s=10.0)
LOADING = msgspec.structs.replace(STEADY, load_s=15.0)  # who comes back has nothing in memory


class Scene:
    """A gateway, two hosts, and a stream of which the client has the beginning."""

    def __init__(self, running: Running, hosts: list[OllamaSim], whole: Answer) -> None:
        self.running = running
        self.hosts = hosts
        self.whole = whole

    def outcomes(self) -> dict[str, int]:
        counts = self.running.gateway.metrics.resumptions.counts
        return {labels[0]: count for labels, count in counts.items()}

    async def lose_all(self, asked: Asked) -> None:
        """Kill both hosts while the answer comes, and see that it is waited for them."""
        await asked.until(b'"content"')
        for host in self.hosts:
            host.kill()
        await asked.until(HEARTBEAT)


@contextlib.asynccontextmanager
async def scene(wait_s: float, total_s: float = 100.0) -> AsyncIterator[Scene]:
    async with sim(decode_tps=60) as a, sim(decode_tps=60) as b:
        config = settings(
            a,
            b,
            routing=msgspec.structs.replace(WATCHED, resume_wait_s=wait_s),
            timeouts=msgspec.structs.replace(LOADING, total_s=total_s),
            # Less than a token's time would let a heartbeat come before the first break.
            server=Server(heartbeat_s=0.3),
        )
        async with serving(config) as running:
            targets = running.gateway.runtime.fleet.aliases[ALIAS].targets
            async with TaskGroup() as group:
                firsts = [
                    group.create_task(ask(running.port, stream=True, text=LONG)) for _ in targets
                ]

            def known() -> bool:
                templates = [template_of(target.host, target.model) for target in targets]
                return all(each and running.gateway.verdicts.get(each) for each in templates)

            await eventually(known, "verdicts about the templates")
            yield Scene(running, [a, b], firsts[0].result())


@pytest.mark.parametrize("back", [0, 1])
async def test_whoever_comes_back_first_goes_on(back: int) -> None:
    async with scene(60.0) as at, asking(at.running.port, body_of(stream=True, text=LONG)) as asked:
        await at.lose_all(asked)
        assert at.outcomes() == {}
        await at.hosts[back].restart()
        answer = await asked.answer()
        assert answer.good, answer
        assert answer.text == at.whole.text
        assert answer.comments > 0
        assert at.outcomes() == {"resumed": 1}


@pytest.mark.parametrize(("wait_s", "total_s"), [(3.0, 100.0), (60.0, 6.0)])
async def test_when_nobody_is_back_in_time_the_break_is_told(wait_s: float, total_s: float) -> None:
    async with (
        scene(wait_s, total_s) as at,
        asking(at.running.port, body_of(stream=True, text=LONG)) as asked,
    ):
        await at.lose_all(asked)
        answer = await asked.answer()
        assert at.whole.text.startswith(answer.text)
        assert not answer.done
        assert answer.clean
        assert answer.error
        assert (answer.error["type"], answer.error["code"]) == ("server_error", "backend_failed")
        assert answer.headers["x-request-id"] in answer.error["message"]
        assert at.outcomes() == {"failed": 1}


async def test_without_a_wait_the_break_is_told_at_once() -> None:
    async with scene(0.0) as at, asking(at.running.port, body_of(stream=True, text=LONG)) as asked:
        await asked.until(b'"content"')
        for host in at.hosts:
            host.kill()
        answer = await asked.answer()
        assert answer.error
        assert at.outcomes() == {"failed": 1}


async def test_a_client_that_leaves_while_it_is_waited_leaves_nothing() -> None:
    async with scene(60.0) as at:
        async with asking(at.running.port, body_of(stream=True, text=LONG)) as asked:
            await at.lose_all(asked)
        await at.running.at_rest()
        assert at.outcomes() == {}


async def test_it_is_not_resumed_more_often_for_having_waited() -> None:
    async with scene(60.0) as at, asking(at.running.port, body_of(stream=True, text=LONG)) as asked:
        await asked.until(b'"content"')
        at.hosts[1].kill()
        await at.hosts[0].restart()
        await eventually(lambda: at.outcomes() == {"resumed": 1}, "it goes on")
        await at.hosts[0].restart()
        await eventually(lambda: at.outcomes() == {"resumed": 2}, "it goes on once more")
        await at.hosts[0].restart()
        answer = await asked.answer()
        assert answer.error
        assert at.whole.text.startswith(answer.text)
        assert at.outcomes() == {"resumed": 2, "refused": 1}
