"""Each fault as a client meets it, on Ollama's endpoints and on `/v1`, streamed and whole."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2 as httpx
import pytest

from arriero.testing.faults import BEFORE, Fault, FaultBook, Kind
from arriero.testing.ollama import OllamaSim, SimModel

NAME = "llama3:8b"
ASK = {"model": NAME, "messages": [{"role": "user", "content": "Tell me in 12 words"}]}
EOF_TEXT = "an error was encountered while running the model: unexpected EOF"


@asynccontextmanager
async def struck(**fault: Any) -> AsyncIterator[tuple[OllamaSim, httpx.AsyncClient]]:
    async with (
        asyncio.timeout(20),
        OllamaSim([SimModel(NAME), SimModel("phi3")]) as sim,
        httpx.AsyncClient(base_url=sim.url, timeout=10) as client,
    ):
        sim.faults.add(Fault(**fault))
        yield sim, client


async def ask(client: httpx.AsyncClient, path: str = "/api/chat", **more: Any) -> httpx.Response:
    return await client.post(path, json={**ASK, **more})


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.text.splitlines()]


# Before an answer


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_a_reset_is_no_answer(path: str) -> None:
    async with struck(kind=Kind.RESET) as (_, client):
        with pytest.raises(httpx.ReadError):
            await ask(client, path)


async def test_garbage_is_not_http() -> None:
    async with struck(kind=Kind.GARBAGE) as (_, client):
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(client)


async def test_a_hang_sends_nothing_until_the_client_gives_up() -> None:
    async with struck(kind=Kind.HANG) as (sim, client):
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/api/tags", timeout=0.1)
        assert sim.stats.faults == {"hang": 1}


async def test_a_refusal_ends_after_its_time() -> None:
    async with struck(kind=Kind.REFUSE, count=1, for_s=0.4) as (_, client):
        with pytest.raises(httpx.ReadError):
            await ask(client)
        with pytest.raises(httpx.ConnectError):
            await ask(client)
        while True:
            try:
                assert (await ask(client)).status_code == 200
                break
            except httpx.ConnectError:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (404, "model 'llama3:8b' not found"),
        (503, "server busy, please try again.  maximum pending requests exceeded"),
        (500, "model runner has unexpectedly stopped"),
    ],
)
async def test_a_status_comes_with_ollamas_words(status: int, text: str) -> None:
    async with struck(kind=Kind.STATUS, status=status) as (_, client):
        native, v1 = await ask(client), await ask(client, "/v1/chat/completions")
    assert (native.status_code, v1.status_code) == (status, status)
    assert native.json()["error"].startswith(text)
    assert v1.json()["error"]["message"].startswith(text)


async def test_a_load_that_fails() -> None:
    async with struck(kind=Kind.LOAD_FAILED) as (sim, client):
        got = await ask(client)
        assert sim.loaded == []
    assert got.status_code == 500
    assert got.json()["error"].startswith("llama-server process has terminated: ")


# In the middle


@pytest.mark.parametrize("after", [0, 1, 5])
async def test_a_reset_in_the_middle_lets_so_many_pieces_through(after: int) -> None:
    async with struck(kind=Kind.RESET_MID, after=after) as (sim, client):
        with pytest.raises(httpx.ReadError):
            await ask(client)
        assert sim.stats.of(NAME).tokens == after


async def test_a_close_in_the_middle_leaves_the_last_chunk_out() -> None:
    async with struck(kind=Kind.CLOSE_MID, after=2) as (_, client):
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            await ask(client)


@pytest.mark.parametrize("kind", [Kind.HANG_MID, Kind.WEDGED])
async def test_a_hung_generation_keeps_its_slot_and_the_lists_stay_green(kind: Kind) -> None:
    async with struck(kind=kind, after=3) as (sim, client):
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/api/chat", json={**ASK, "stream": False}, timeout=0.5)
        for path in ("/", "/api/version", "/api/tags", "/api/ps"):
            assert (await client.get(path, timeout=1)).status_code == 200
        async with asyncio.TaskGroup() as group:
            task = group.create_task(ask(client))
            while sim.stats.of(NAME).running.now == 0:  # noqa: ASYNC110 - counters have no events
                await asyncio.sleep(0.001)
            task.cancel()
        assert sim.stats.of(NAME).tokens == (0 if kind is Kind.WEDGED else 6)


@pytest.mark.parametrize("kind", [Kind.HANG_MID, Kind.WEDGED])
async def test_a_hang_gives_up_with_its_client(kind: Kind) -> None:
    async with struck(kind=kind, count=1) as (_, client):
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/api/chat", json=ASK, timeout=0.3)
        assert (await ask(client)).status_code == 200


async def test_a_clean_end_without_done() -> None:
    async with struck(kind=Kind.EOF_MID, after=2) as (_, client):
        assert [line["done"] for line in lines(await ask(client))] == [False, False]


async def test_an_error_line_ends_a_stream() -> None:
    async with struck(kind=Kind.ERROR_MID, after=2, text="so it goes") as (_, client):
        *pieces, last = lines(await ask(client))
        whole = await ask(client, stream=False)
    assert len(pieces) == 2
    assert last == {"error": "so it goes"}
    assert (whole.status_code, whole.json()) == (500, {"error": "so it goes"})


async def test_v1_loses_the_error_of_a_stream() -> None:
    async with struck(kind=Kind.ERROR_MID, after=2) as (_, client):
        text = (await ask(client, "/v1/chat/completions", stream=True)).text
    events = [json.loads(event.removeprefix("data: ")) for event in text.split("\n\n") if event]
    assert "[DONE]" not in text
    assert "error" not in events[-1]
    assert events[-1]["model"] == ""
    assert events[-1]["choices"][0] == {
        "index": 0,
        "delta": {"content": ""},
        "finish_reason": None,
    }


async def test_v1_completions_lose_it_too() -> None:
    async with struck(kind=Kind.ERROR_MID, after=2) as (_, client):
        body = {"model": NAME, "prompt": "Tell me in 12 words", "stream": True}
        text = (await client.post("/v1/completions", json=body)).text
    assert "[DONE]" not in text
    assert json.loads(text.split("\n\n")[-2].removeprefix("data: "))["model"] == ""


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_a_malformed_line_is_half_a_line_and_the_rest_follows(path: str) -> None:
    async with struck(kind=Kind.MALFORMED_MID, after=1) as (_, client):
        parts = [part for part in (await ask(client, path, stream=True)).text.split("\n") if part]
    broken = [at for at, part in enumerate(parts) if not is_json(part)]
    assert broken == [1]
    assert len(parts) > 5


def is_json(text: str) -> bool:
    try:
        json.loads(text.removeprefix("data: ").replace("[DONE]", "1"))
    except json.JSONDecodeError:
        return False
    return True


async def test_a_crash_is_an_error_and_the_next_request_loads_anew() -> None:
    async with struck(kind=Kind.CRASH, after=2, count=1) as (sim, client):
        assert lines(await ask(client))[-1] == {"error": EOF_TEXT}
        assert sim.loaded == [NAME]
        assert (await ask(client)).status_code == 200
        assert sim.stats.of(NAME).loads == 2


async def test_running_out_of_memory_unloads_every_model() -> None:
    async with struck(kind=Kind.OUT_OF_MEMORY, model="phi3") as (sim, client):
        await ask(client)
        got = await ask(client, model="phi3", stream=False)
        assert sim.loaded == []
    assert (got.status_code, got.json()["error"]) == (500, "cudaMalloc failed: out of memory")


async def test_a_repeated_token_ends_without_a_word() -> None:
    async with struck(kind=Kind.REPEAT, after=3) as (_, client):
        pieces = lines(await ask(client))
        assert len(lines(await ask(client))) == len(pieces)
        whole = (await ask(client, stream=False)).json()
    said = [piece["message"]["content"] for piece in pieces]
    assert Counter(said).most_common(1)[0][1] >= 31
    assert not any(piece["done"] for piece in pieces)
    assert (whole["done"], "done_reason" in whole) == (False, False)


async def test_a_slow_generation_is_slow_at_every_piece() -> None:
    async with struck(kind=Kind.SLOW, delay_s=0.01) as (_, client):
        got = (await ask(client, stream=False)).json()
    assert got["eval_duration"] > 0.009 * 1e9 * (got["eval_count"] - 1)


async def test_a_fault_after_more_pieces_than_there_are_strikes_before_done() -> None:
    async with struck(kind=Kind.EOF_MID, after=10_000) as (_, client):
        pieces = lines(await ask(client))
    assert len(pieces) > 10
    assert not pieces[-1]["done"]


@pytest.mark.parametrize(
    "kind",
    [Kind.CRASH, Kind.RESET_MID, Kind.CLOSE_MID, Kind.ERROR_MID],
)
async def test_embeddings_meet_faults_too(kind: Kind) -> None:
    embedder = SimModel("embed", capabilities=("embedding",))
    async with OllamaSim([embedder]) as sim, httpx.AsyncClient(base_url=sim.url) as client:
        sim.faults.add(Fault(kind=kind, count=1))
        body = {"model": "embed", "input": "one"}
        try:
            status = (await client.post("/api/embed", json=body)).status_code
        except httpx.TransportError:
            status = 0
        assert status == (500 if kind in {Kind.CRASH, Kind.ERROR_MID} else 0)
        assert (await client.post("/api/embed", json=body)).status_code == 200


# The book


def test_a_fault_is_for_some_endpoints_and_models() -> None:
    book = FaultBook()
    book.add(Fault(kind=Kind.RESET, endpoint="/api/*", model="llama*"))
    assert book.take("/api/chat", "llama3", inference=True)
    assert not book.take("/v1/models", "llama3", inference=False)
    assert not book.take("/api/chat", "phi3", inference=True)


@pytest.mark.parametrize("kind", list(Kind))
def test_what_generates_nothing_meets_only_faults_that_come_first(kind: Kind) -> None:
    book = FaultBook()
    book.add(Fault(kind=kind, count=1))
    assert bool(book.take("/api/tags", "", inference=False)) == (kind in BEFORE)
    assert bool(book.all()) == (kind not in BEFORE)


def test_the_first_fault_that_matches_strikes() -> None:
    book = FaultBook()
    book.add(Fault(kind=Kind.RESET, model="other"))
    book.add(Fault(kind=Kind.HANG, count=1))
    book.add(Fault(kind=Kind.GARBAGE))
    taken = [book.take("/", "", inference=False) for _ in range(2)]
    assert [fault.kind for fault in taken if fault] == [Kind.HANG, Kind.GARBAGE]


def test_one_fault_may_be_given_to_two_hosts_and_stays_as_it_was() -> None:
    fault = Fault(kind=Kind.RESET, count=1)
    books = [FaultBook(), FaultBook()]
    for book in books:
        book.add(fault)
    assert [bool(book.take("/", "", inference=True)) for book in books] == [True, True]
    assert fault == Fault(kind=Kind.RESET, count=1)


def test_chance_is_repeatable() -> None:
    def hits(seed: int) -> list[bool]:
        book = FaultBook(seed)
        book.add(Fault(kind=Kind.RESET, probability=0.5))
        return [book.take("/", "", inference=True) is not None for _ in range(64)]

    assert hits(1) == hits(1) != hits(2)
    assert 16 < sum(hits(1)) < 48


def test_faults_are_taken_out() -> None:
    book = FaultBook()
    first = book.add(Fault(kind=Kind.RESET))
    book.add(Fault(kind=Kind.HANG))
    assert book.remove(first)
    assert not book.remove(first)
    assert repr(book) == "<FaultBook ['hang']>"
    book.clear()
    assert book.all() == []
