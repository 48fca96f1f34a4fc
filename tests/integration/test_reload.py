"""A reload changes what it says, and disturbs nothing else."""

import asyncio

import msgspec
from tests.integration.arena import ALIAS, MODEL, eventually, serving, settings, sim
from tests.integration.asking import ask, asking, body_of, get

from arriero.config.problems import ConfigError
from arriero.config.settings import Config


class File:
    """The configuration as it will be read next."""

    def __init__(self, config: Config) -> None:
        self.config: Config | Exception = config

    def read(self) -> Config:
        if isinstance(self.config, Exception):
            raise self.config
        return self.config


async def names(port: int) -> set[str]:
    return {model["id"] for model in (await get(port, "/v1/models")).json["data"]}


async def test_a_new_alias_appears_and_an_old_one_goes() -> None:
    async with sim() as a:
        file = File(settings(a))
        async with serving(settings(a), file.read) as running:
            file.config = settings(a, aliases={"new": MODEL})
            running.reload()
            assert await names(running.port) == {"new"}
            assert (await ask(running.port, model="new")).good
            assert (await ask(running.port, model=ALIAS)).status == 404
            assert running.gateway.metrics.reloads.counts == {("ok",): 1}


async def test_a_dropped_backend_finishes_what_it_began() -> None:
    async with sim(decode_tps=100) as a, sim() as b:
        file = File(settings(a))
        async with serving(settings(a), file.read) as running:
            old = running.host("a")
            async with asking(running.port, body_of(stream=True, text="30 words")) as asked:
                await asked.until(b'"content"')
                only_b = settings(a, b)
                file.config = msgspec.structs.replace(
                    only_b,
                    backends=only_b.backends[1:],
                    models=tuple(
                        msgspec.structs.replace(model, routes=model.routes[1:])
                        for model in only_b.models
                    ),
                )
                running.reload()
                assert old.in_flight == 1
                assert (await ask(running.port)).good, "new requests go to the new one"
                assert (await asked.answer()).good
            await eventually(lambda: old.in_flight == 0, "the old host's rest")
            looks = a.stats.endpoints["GET /api/tags"]
            assert (await ask(running.port)).good
            assert a.stats.endpoints["GET /api/tags"] == looks, "nobody looks there any more"


async def test_a_bad_file_changes_nothing() -> None:
    async with sim() as a:
        file = File(settings(a))
        async with serving(settings(a), file.read) as running:
            before = running.gateway.runtime
            for error in (ConfigError("config.yaml", []), FileNotFoundError("config.yaml")):
                file.config = error
                running.reload()
            assert running.gateway.runtime is before
            assert (await ask(running.port)).good
            assert running.gateway.metrics.reloads.counts == {("failed",): 2}


async def test_kept_hosts_keep_their_counters_state_and_connections() -> None:
    async with sim() as a, sim() as b:
        file = File(settings(a, b))
        async with serving(settings(a, b), file.read) as running:
            b.kill()
            for _ in range(3):
                assert (await ask(running.port)).good
            kept = {name: running.host(name) for name in "ab"}
            pool = running.gateway.runtime.pools["a"]
            served = kept["a"].served
            file.config = settings(a, b, aliases={"other": MODEL})
            running.reload()
            assert {name: running.host(name) for name in "ab"} == kept
            assert running.gateway.runtime.pools["a"] is pool
            assert kept["a"].served == served
            assert kept["b"].breaker.state.name == "EJECTED"
            assert (await ask(running.port, model="other")).good


async def test_a_moved_backend_is_a_new_one() -> None:
    async with sim() as a, sim() as b:
        file = File(settings(a))
        async with serving(settings(a), file.read) as running:
            old = running.host("a")
            file.config = settings(b)  # the same name at another address
            running.reload()
            assert running.host("a") is not old
            await running.known_fleet()
            assert (await ask(running.port)).good
            assert b.stats.endpoints["POST /api/chat"] == 1


async def test_many_reloads_under_load_fail_nothing() -> None:
    async with sim(decode_tps=400) as a, sim(decode_tps=400) as b:
        file = File(settings(a, b))
        async with serving(settings(a, b), file.read) as running:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(running.port, stream=n % 2 == 0)) for n in range(40)]
                for number in range(20):
                    file.config = settings(a, b) if number % 2 else settings(b, a)
                    running.reload()
                    await asyncio.sleep(0.003)
            assert [task.result() for task in tasks if not task.result().good] == []
