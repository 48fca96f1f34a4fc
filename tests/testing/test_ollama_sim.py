"""The simulation's own behaviour: what tests that use it rely on beyond Ollama's documentation."""

import json

import httpx2 as httpx
import pytest

from arriero.testing.ollama import Fault, Kind, OllamaSim, SimModel

ASK = {"model": "llama3:8b", "messages": [{"role": "user", "content": "Tell me in 12 words"}]}


async def chat(url: str, **more: object) -> httpx.Response:
    async with httpx.AsyncClient(base_url=url, timeout=5) as client:
        return await client.post("/api/chat", json={**ASK, **more})


def lines(response: httpx.Response) -> list[dict[str, object]]:
    return [json.loads(line) for line in response.text.splitlines()]


async def test_two_hosts_give_the_same_answer_to_the_same_question() -> None:
    async with OllamaSim([SimModel("llama3:8b")]) as one, OllamaSim([SimModel("llama3:8b")]) as two:
        first, second = await chat(one.url, stream=False), await chat(two.url, stream=False)
    assert first.json()["message"] == second.json()["message"]
    assert first.json()["message"]["content"]


async def test_a_fault_with_a_count_strikes_that_often() -> None:
    async with OllamaSim([SimModel("llama3:8b")]) as sim:
        sim.faults.add(Fault(kind=Kind.STATUS, status=503, count=2))
        statuses = [(await chat(sim.url)).status_code for _ in range(3)]
    assert statuses == [503, 503, 200]


async def test_a_reset_in_mid_stream_comes_after_so_many_pieces() -> None:
    async with OllamaSim([SimModel("llama3:8b")]) as sim:
        sim.faults.add(Fault(kind=Kind.RESET_MID, after=3))
        with pytest.raises(httpx.ReadError):
            await chat(sim.url)
        assert sim.stats.of("llama3:8b").tokens == 3
