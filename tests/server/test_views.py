"""What the gateway tells about itself."""

from urllib.parse import quote

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.server.client import KEY, Client, chat
from tests.server.conftest import Launch
from tests.server.running import MODEL, Running, config, sim, until

from arriero import __version__
from arriero.config.settings import Access, Routing, Secret
from arriero.testing.ollama import OllamaSim, SimModel

EMBED = "org/embed:v1"


@pytest.mark.parametrize("path", ["/v1/models", "/models"])
async def test_the_list_of_models(client: Client, path: str) -> None:
    document = (await client.ask("GET", path)).json()
    assert document["object"] == "list"
    assert [model["id"] for model in document["data"]] == ["llama", EMBED]
    for model in document["data"]:
        assert model["object"] == "model"
        assert isinstance(model["created"], int)
        assert model["owned_by"]


@pytest.mark.parametrize("prefix", ["/v1/models/", "/models/"])
@pytest.mark.parametrize("name", [EMBED, quote(EMBED), quote(EMBED, safe=""), "org%2fembed%3av1"])
async def test_one_model_by_name(client: Client, prefix: str, name: str) -> None:
    answer = await client.ask("GET", prefix + name)
    assert answer.status == 200
    assert answer.json()["id"] == EMBED
    listed = (await client.ask("GET", "/v1/models")).json()["data"]
    assert answer.json() in listed


@pytest.mark.parametrize("name", ["none", "LLAMA", "llama%00", "%ff", "llama%2F..", "a" * 3000])
async def test_a_model_that_is_none(client: Client, name: str) -> None:
    answer = await client.ask("GET", f"/v1/models/{name}")
    assert answer.status == 404
    assert answer.error["code"] == "model_not_found"
    assert answer.error["param"] == "model"
    assert len(answer.body) < 1000


async def test_a_misspelt_model_is_guessed(client: Client) -> None:
    answer = await client.ask("GET", "/v1/models/lama")
    assert "did you mean `llama`?" in answer.error["message"]


@pytest.mark.parametrize("path", ["/health/liveliness", "/health/liveness"])
async def test_it_is_alive(client: Client, path: str) -> None:
    answer = await client.ask("GET", path, key=None)
    assert answer.status == 200
    assert answer.json() == {"status": "alive"}


async def test_ready_is_who_has_a_model_to_offer(client: Client) -> None:
    answer = await client.ask("GET", "/health/readiness", key=None)
    assert answer.status == 200
    assert answer.json() == {"status": "ready"}


async def test_it_becomes_ready_when_a_backend_comes_up() -> None:
    away = sim()
    async with away:
        away.refuse()
        running = Running(
            config([away], {}, routing=Routing(inventory_interval_s=0.02, ejection_s=0.01)), [away]
        )
        await running.start()
        try:
            client = await running.connect()
            answer = await client.ask("GET", "/health/readiness", key=None)
            assert answer.status == 503
            assert answer.json() == {"status": "not ready"}
            assert (await client.ask("GET", "/health/liveliness", key=None)).status == 200
            assert (await client.ask("POST", "/v1/chat/completions", chat())).status >= 500
            await away.accept()
            await running.ready()
            hosts = running.gateway.runtime.fleet.hosts
            now_s = running.gateway.clock.now_s
            await until(lambda: hosts["host0"].breaker.may_try(now_s()))
            assert (await client.ask("GET", "/health/readiness", key=None)).status == 200
            assert (await client.ask("POST", "/v1/chat/completions", chat())).status == 200
        finally:
            await running.stop()


async def test_it_is_not_ready_without_a_model() -> None:
    async with OllamaSim([SimModel("other")]) as empty:
        running = Running(config([empty], {}), [empty])
        await running.start()
        try:
            await running.ready()
            client = await running.connect()
            assert (await client.ask("GET", "/health/readiness", key=None)).status == 503
            answer = await client.ask("POST", "/v1/chat/completions", chat())
            assert answer.status == 404
            assert answer.error["code"] == "model_not_found"
        finally:
            await running.stop()


async def test_metrics_are_behind_the_key(client: Client) -> None:
    assert (await client.ask("GET", "/metrics", key=None)).status == 401
    answer = await client.ask("GET", "/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(answer.body.decode()))
    assert any(family.name == "arriero_requests" for family in families)


async def test_metrics_may_be_public(launch: Launch) -> None:
    running = await launch(access=Access(master_key=Secret(KEY), metrics_public=True))
    client = await running.connect()
    assert (await client.ask("GET", "/metrics", key=None)).status == 200
    assert (await client.ask("GET", "/v1/models", key=None)).status == 401


async def test_the_status_names_no_address(launch: Launch) -> None:
    running = await launch(sims=2, digest="abc")
    client = await running.connect()
    assert (await client.ask("POST", "/v1/chat/completions", chat())).status == 200
    answer = await client.ask("GET", "/arriero/status")
    assert b"127.0.0.1" not in answer.body
    assert b"http" not in answer.body
    status = answer.json()
    assert status["version"] == __version__
    assert status["config_digest"] == "abc"
    assert status["ready"] is True
    assert status["connections"] == 1
    assert status["leftovers"] == 0
    assert [backend["name"] for backend in status["backends"]] == ["host0", "host1"]
    assert sum(backend["served"] for backend in status["backends"]) == 1
    for backend in status["backends"]:
        assert backend["state"] == "available"
        assert backend["in_flight"] == 0
        assert MODEL in backend["models"]
    assert [model["name"] for model in status["models"]] == ["llama", EMBED]
    assert [model["mode"] for model in status["models"]] == [None, "embedding"]
    assert all(target["available"] for target in status["models"][0]["targets"])
    assert {target["state"] for target in status["models"][0]["targets"]} == {"loaded"}


async def test_the_status_is_behind_the_key(client: Client) -> None:
    assert (await client.ask("GET", "/arriero/status", key=None)).status == 401
