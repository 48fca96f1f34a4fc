"""Pulling a model onto a simulated host, and what of it outlives a restart of the process."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2 as httpx
import pytest

from arriero.testing.ollama import OllamaSim, SimModel
from arriero.testing.ollama.__main__ import arguments, remember, remembered

NAME = "llama3:8b"
MISSING = "pull model manifest: file does not exist"


@asynccontextmanager
async def host(pulled: list[SimModel]) -> AsyncIterator[httpx.AsyncClient]:
    sim = OllamaSim([SimModel("phi3:3.8b")]).publish(SimModel(NAME), pulled.append)
    async with (
        asyncio.timeout(30),
        sim,
        httpx.AsyncClient(base_url=sim.url, timeout=20) as http,
    ):
        yield http


async def installed(http: httpx.AsyncClient) -> list[str]:
    return [model["name"] for model in (await http.get("/api/tags")).json()["models"]]


async def test_a_model_of_the_registry_comes_onto_the_host() -> None:
    pulled: list[SimModel] = []
    async with host(pulled) as http:
        assert await installed(http) == ["phi3:3.8b"]
        answer = await http.post("/api/pull", json={"model": NAME, "stream": False})
        assert (answer.status_code, answer.json()) == (200, {"status": "success"})
        assert await installed(http) == ["phi3:3.8b", NAME]
        assert [model.name for model in pulled] == [NAME]
        body = {"model": NAME, "prompt": "Hello", "stream": False}
        assert (await http.post("/api/generate", json=body)).status_code == 200


async def test_it_tells_how_far_it_is() -> None:
    async with host([]) as http:
        answer = await http.post("/api/pull", json={"name": NAME})
        lines = [json.loads(line) for line in answer.text.splitlines()]
        told = [line["status"] for line in lines]
        digest = SimModel(NAME).digest
        layer = f"pulling {digest[:12]}"
        assert told == [
            "pulling manifest", layer, layer, "verifying sha256 digest", "writing manifest",
            "success",
        ]  # fmt: skip
        assert lines[2]["completed"] == lines[2]["total"] == SimModel(NAME).size
        assert answer.headers["content-type"] == "application/x-ndjson"


async def test_what_the_registry_has_not_is_told() -> None:
    async with host([]) as http:
        whole = await http.post("/api/pull", json={"model": "nobodys:1b", "stream": False})
        assert (whole.status_code, whole.json()) == (500, {"error": MISSING})
        # A stream has begun by then: its status says nothing.
        stream = await http.post("/api/pull", json={"model": "nobodys:1b"})
        assert stream.status_code == 200
        assert json.loads(stream.text.splitlines()[-1]) == {"error": MISSING}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "missing request body"),
        (b'{"model": ""}', "invalid model name"),
        (b'{"model": "a b"}', "invalid model name"),
    ],
)
async def test_bad_requests(body: bytes, text: str) -> None:
    async with host([]) as http:
        answer = await http.post("/api/pull", content=body)
        assert (answer.status_code, answer.json()) == (400, {"error": text})
        assert (await http.get("/api/pull")).status_code == 405


def test_what_was_pulled_is_there_after_the_next_start(tmp_path: Path) -> None:
    file = tmp_path / "pulled"
    options = arguments(["--registry", f"{NAME},decode_tps=60", "--pulled", str(file)])
    (published,) = options.registry
    assert remembered(options.pulled) == []
    remember(options.pulled, published)
    assert remembered(options.pulled) == [NAME]
    assert remembered(None) == []
    remember(None, published)
