"""Who is asked: by load per host, by what is loaded, by turn, and only where the model is."""

import asyncio
from collections import Counter

import msgspec
from tests.integration.arena import ALIAS, CALM, MODEL, events, eventually, serving, settings, sim
from tests.integration.asking import ask, get

from arriero.config.settings import Model, Route
from arriero.testing.ollama import OllamaSim, SimModel

LOOKING = msgspec.structs.replace(CALM, inventory_interval_s=0.02)


def asked(host: OllamaSim) -> int:
    return sum(seen.path == "/api/chat" for seen in host.requests)


async def test_sequential_requests_take_turns() -> None:
    async with sim() as a, sim() as b, sim() as c, serving(settings(a, b, c)) as running:
        order = []
        for _ in range(9):
            before = [asked(a), asked(b), asked(c)]
            assert (await ask(running.port)).good
            after = [asked(a), asked(b), asked(c)]
            order += [at for at in range(3) if after[at] > before[at]]
        assert order == [0, 1, 2] * 3


async def test_load_counts_by_host_and_not_by_alias() -> None:
    aliases = {"big": "big:1b", "small": "small:1b"}
    names = tuple(aliases.values())
    async with (
        sim(*names, decode_tps=100) as a,
        sim(*names, decode_tps=100) as b,
        serving(settings(a, b, aliases=aliases)) as running,
        asyncio.TaskGroup() as group,
    ):
        long = group.create_task(ask(running.port, model="big", text="in 30 words"))
        await eventually(lambda: running.host("a").in_flight == 1, "the long one")
        for _ in range(3):
            assert (await ask(running.port, model="small", text="in 2 words")).good
        assert not long.done()
        assert (asked(a), asked(b)) == (1, 3)


async def test_concurrent_requests_spread_evenly() -> None:
    async with sim(decode_tps=200) as a, sim(decode_tps=200) as b, sim(decode_tps=200) as c:
        async with serving(settings(a, b, c)) as running, asyncio.TaskGroup() as group:
            for _ in range(30):
                group.create_task(ask(running.port))
        assert [asked(host) for host in (a, b, c)] == [10, 10, 10]


async def test_a_tie_goes_to_the_host_that_has_the_model_loaded() -> None:
    hosts = sim(cold=True), sim(cold=True)
    async with hosts[0] as a, hosts[1] as b, serving(settings(a, b, routing=LOOKING)) as running:
        async with serving(settings(b)) as other:
            assert (await ask(other.port)).good
        await eventually(lambda: running.host("b").resident, "the model seen loaded")
        for _ in range(4):
            assert (await ask(running.port)).good
        assert (asked(a), asked(b)) == (0, 5)


async def test_requests_go_only_where_the_model_is() -> None:
    async with sim("other:1b") as a, sim() as b, serving(settings(a, b)) as running:
        for _ in range(4):
            assert (await ask(running.port)).good
        assert (asked(a), asked(b)) == (0, 4)


async def test_a_model_pulled_while_we_run_is_found() -> None:
    async with sim("other:1b") as a, serving(settings(a, routing=LOOKING)) as running:
        assert (await ask(running.port)).status == 404
        assert (await get(running.port, "/health/readiness")).status == 503
        a.install(SimModel(MODEL))
        await eventually(lambda: running.host("a").has(MODEL), "a look")
        assert (await ask(running.port)).good
        a.remove(MODEL)
        await eventually(lambda: not running.host("a").has(MODEL), "another look")
        assert (await ask(running.port)).status == 404


async def test_names_without_a_tag_mean_latest() -> None:
    async with sim("llama3") as a, serving(settings(a, aliases={ALIAS: "llama3"})) as running:
        assert (await ask(running.port)).good


async def test_different_weights_under_one_name_are_told_once() -> None:
    async with (
        sim(digest="1" * 64) as a,
        sim(digest="2" * 64) as b,
        sim("other:1b") as c,
        serving(settings(a, b, c, routing=LOOKING), known=False) as running,
    ):
        with events() as told:
            await eventually(lambda: told, "the warning")
            looks = a.stats.endpoints["GET /api/tags"]
            await eventually(lambda: a.stats.endpoints["GET /api/tags"] > looks + 5, "looks")
        assert [line for line in told if "different weights" in line] == [
            "same tag, different weights backends=['b']"
        ]
        assert running.host("a").installed


async def test_round_robin_visits_each_in_turn_whatever_is_loaded() -> None:
    routing = msgspec.structs.replace(LOOKING, strategy="round-robin")
    async with sim() as a, sim() as b, serving(settings(a, b, routing=routing)) as running:
        assert (await ask(running.port)).good
        await eventually(lambda: running.host("a").resident, "the model seen loaded")
        for _ in range(5):
            assert (await ask(running.port)).good
        assert (asked(a), asked(b)) == (3, 3)


async def test_simple_shuffle_follows_the_weights() -> None:
    async with sim() as a, sim() as b:
        routes = (
            Route(backend="a", model=MODEL, weight=3),
            Route(backend="b", model=MODEL, weight=1),
        )
        model = Model(name=ALIAS, routes=routes, strategy="simple-shuffle")
        async with serving(settings(a, b, models=[model])) as running:
            for _ in range(80):
                assert (await ask(running.port, text="in 1 words")).good
        shares = Counter(a=asked(a), b=asked(b))
        assert shares.total() == 80
        assert 45 <= shares["a"] <= 75


async def test_two_aliases_of_one_model_are_one_model_on_the_host() -> None:
    aliases = {"fast": MODEL, "slow": MODEL}
    async with sim(cold=True) as a, serving(settings(a, aliases=aliases)) as running:
        first = await ask(running.port, model="fast")
        second = await ask(running.port, model="slow")
        assert (first.json["model"], second.json["model"]) == ("fast", "slow")
        assert first.text == second.text
        assert a.stats.of(MODEL).loads == 1


async def test_a_plain_chat_to_an_alias_for_embeddings_reaches_no_backend() -> None:
    async with sim() as a:
        config = settings(a)
        models = tuple(msgspec.structs.replace(one, mode="embedding") for one in config.models)
        async with serving(msgspec.structs.replace(config, models=models)) as running:
            answer = await ask(running.port)
            assert answer.status == 400
            assert answer.json["error"]["param"] == "model"
            assert running.host("a").served == 0
