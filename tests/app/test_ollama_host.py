import asyncio

import pytest

from arriero.app.clock import SystemClock
from arriero.app.ollama_host import ask_ollama, ollama_url
from arriero.testing.http import HttpServer, Reply, Request
from arriero.testing.ollama import OllamaSim, SimModel


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (None, "http://127.0.0.1:11434"),
        ("", "http://127.0.0.1:11434"),
        (" box ", "http://box:11434"),
        ("box:8080", "http://box:8080"),
        (":8080", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:1234", "http://127.0.0.1:1234"),
        ("http://box", "http://box:80"),
        ("https://box/", "https://box:443"),
        ("https://box:444", "https://box:444"),
        ("::1", "http://[::1]:11434"),
        ("[::1]:99", "http://[::1]:99"),
        ("[::]", "http://[::1]:11434"),
        ('"box"', "http://box:11434"),
    ],
    ids=repr,
)
def test_the_variable_is_read_as_ollama_reads_it(given: str | None, url: str) -> None:
    assert ollama_url(given) == url


@pytest.mark.parametrize("given", ["box:port", "box:99999", "http://[::1"])
def test_what_is_no_address_is_an_error(given: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        ollama_url(given)


async def test_an_ollama_that_answers_is_found_with_its_models() -> None:
    async with OllamaSim([SimModel("llama3:8b"), SimModel("phi3")]) as sim:
        found = await asyncio.to_thread(ask_ollama, sim.url, SystemClock())
    assert found is not None
    assert found.url == sim.url
    assert set(found.models) == {"llama3:8b", "phi3:latest"}


async def test_nobody_there_is_none() -> None:
    async with OllamaSim() as sim:
        url = sim.url
    assert await asyncio.to_thread(ask_ollama, url, SystemClock()) is None


@pytest.mark.parametrize(("status", "body"), [(200, b"<html>"), (200, b"{}"), (404, b"no")])
async def test_something_else_there_is_none(status: int, body: bytes) -> None:
    async def other(_request: Request, reply: Reply) -> None:
        reply.send(status, body)

    async with HttpServer(other) as server:
        assert await asyncio.to_thread(ask_ollama, server.url, SystemClock()) is None
