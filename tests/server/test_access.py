"""Who is let in, what strangers are told, and what is written down about it."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.server.client import KEY, Client, chat, request
from tests.server.conftest import Launch
from tests.server.running import Running, until

from arriero.config.settings import Access, Log
from arriero.testing.ollama import Fault, Kind

PATHS = [
    ("GET", "/v1/models"),
    ("GET", "/v1/models/llama"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("GET", "/metrics"),
    ("GET", "/arriero/status"),
    ("GET", "/"),
    ("GET", "/v1/nothing"),
    ("DELETE", "/v1/models"),
    ("OPTIONS", "*"),
    ("GET", "/health"),
    ("GET", "/health/liveliness/more"),
    ("GET", "/v1/../health/liveliness"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_without_a_key_everything_is_forbidden(
    client: Client, running: Running, method: str, path: str
) -> None:
    body = b"{" if method == "POST" else None
    answer = await client.ask(method, path, body, key=None)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.error["code"] == "invalid_api_key"
    assert running.generations() == 0


@pytest.mark.parametrize("path", ["/health/liveliness", "/health/readiness"])
@pytest.mark.parametrize("key", [None, "wrong", KEY])
async def test_health_is_for_everybody(client: Client, path: str, key: str | None) -> None:
    assert (await client.ask("GET", path, key=key)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer {KEY}"},
        {"AUTHORIZATION": f"BEARER   {KEY}  "},
        {"x-api-key": KEY},
        {"X-Api-Key": KEY},
    ],
)
async def test_the_key_in_all_its_spellings(client: Client, headers: dict[str, str]) -> None:
    assert (await client.ask("GET", "/v1/models", key=None, headers=headers)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": KEY},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": f"Bearer {KEY[:-1]}"},
        {"Authorization": f"Bearer {KEY.upper()}"},
        {"Authorization": f"Bearer {KEY} {KEY}"},
        {"Authorization": f"Bearer {KEY},{KEY}"},
        {"Authorization": "Bearer \xff"},
        {"Authorization": "Bearer " + "a" * 10_000},
        {"x-api-key": f"Bearer {KEY}"},
        {"x-api-key": ""},
        {"Authorization": "Bearer wrong", "x-api-key": KEY},
        {"Cookie": f"key={KEY}"},
    ],
)
async def test_other_keys_are_refused(client: Client, headers: dict[str, str]) -> None:
    answer = await client.ask("GET", "/v1/models", key=None, headers=headers)
    assert answer.status == 401
    assert KEY.encode() not in answer.body


async def test_a_key_in_the_query_is_none(client: Client) -> None:
    assert (await client.ask("GET", f"/v1/models?api_key={KEY}", key=None)).status == 401


async def test_who_is_unknown_learns_nothing_of_routes_or_methods(client: Client) -> None:
    bodies = [
        await client.ask(method, path, key=None)
        for method, path in [("GET", "/v1/models"), ("GET", "/v1/nothing"), ("PUT", "/v1/models")]
    ]
    told = {answer.error["message"].partition(" [request")[0] for answer in bodies}
    assert len(told) == 1


async def test_a_gateway_without_a_key_lets_nobody_in(launch: Launch) -> None:
    running = await launch(access=Access())
    client = await running.connect()
    for key in (None, KEY, ""):
        assert (await client.ask("GET", "/v1/models", key=key)).status == 401
    assert (await client.ask("GET", "/health/liveliness", key=None)).status == 200


async def test_the_client_s_key_goes_to_no_backend(client: Client, running: Running) -> None:
    headers = {"x-api-key": "another", "Cookie": "a=b", "X-Forwarded-For": "10.0.0.1"}
    assert (await client.ask("POST", "/v1/chat/completions", chat(), headers=headers)).status == 200
    seen = next(one for one in running.sims[0].requests if one.method == "POST")
    assert not {"authorization", "x-api-key", "cookie", "x-forwarded-for"} & set(seen.headers)


# -- the access log


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_every_request_has_its_line(launch: Launch, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    running = await launch(log=Log(access=str(path), flush_interval_s=0.01))
    client = await running.connect()
    secret = "a word that nobody may read"
    answers = [
        await client.ask("POST", "/v1/chat/completions?user=me", chat(secret)),
        await client.ask("POST", "/v1/chat/completions", chat(secret, stream=True)),
        await client.ask("GET", "/v1/models", key="wrong"),
        await client.ask("GET", "/v1/nothing"),
        await client.ask("POST", "/v1/chat/completions", b"{"),
    ]
    client.write(b"nonsense\r\n\r\n")
    answers.append(await client.answer())
    await until(lambda: len(lines(path)) == len(answers))
    written = lines(path)
    assert [line["request_id"] for line in written] == [
        answer.headers["x-request-id"] for answer in answers
    ]
    assert [line["status"] for line in written] == [200, 200, 401, 404, 400, 400]
    assert written[0]["path"] == "/v1/chat/completions"
    assert written[0]["alias"] == "llama"
    assert written[0]["backend"] == "host0"
    assert written[0]["client"] == "127.0.0.1"
    assert written[0]["principal"] == "master"
    assert written[0]["response_bytes"] == len(answers[0].body)
    assert written[1]["stream"] is True
    assert written[1]["response_bytes"] == len(answers[1].body)
    assert written[1]["first_token_s"] >= 0
    assert [line["outcome"] for line in written] == ["ok", "ok", *["client_error"] * 4]
    text = path.read_text()
    for hidden in (secret, "You said", KEY, "wrong", "user=me"):
        assert hidden not in text


async def test_who_left_has_a_line_too(launch: Launch, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    running = await launch(log=Log(access=str(path), flush_interval_s=0.01))
    running.sims[0].faults.add(Fault(kind=Kind.HANG_MID, after=1, count=1))
    client = await running.connect()
    client.write(request("POST", "/v1/chat/completions", chat(stream=True)))
    await until(lambda: running.open()["in flight"])
    client.abort()
    await until(lambda: len(lines(path)) == 1)
    (line,) = lines(path)
    assert line["status"] == 499
    assert line["outcome"] == "client_gone"


async def test_requests_cut_off_at_the_end_are_written_down(launch: Launch, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    running = await launch(
        server={"drain_timeout_s": 0.02}, log=Log(access=str(path), flush_interval_s=60.0)
    )
    running.sims[0].faults.add(Fault(kind=Kind.HANG_MID, after=1, count=1))
    client = await running.connect()
    client.write(request("POST", "/v1/chat/completions", chat(stream=True)))
    await until(lambda: running.open()["in flight"])
    running.service.stop()
    assert running.task is not None
    await running.task
    assert [line["outcome"] for line in lines(path)] == ["client_gone"]
