"""HTTP/1.1 as clients speak it: persistence, bodies, expectations, targets, routes."""

import pytest
from tests.server.client import KEY, Client, chat, chunked, request
from tests.server.conftest import Launch
from tests.server.running import Running, until


async def test_one_connection_serves_many_requests(client: Client, running: Running) -> None:
    for at in range(50):
        answer = await client.ask("POST", "/v1/chat/completions", chat(f"number {at}"))
        assert answer.status == 200
        assert answer.json()["choices"][0]["message"]["content"] == f"You said: number {at}"
        assert not answer.closes
    assert running.gateway.metrics.client_connections_total == 1


async def test_an_answer_is_dated_numbered_and_measured(client: Client) -> None:
    first, second = [await client.ask("GET", "/v1/models") for _ in range(2)]
    assert first.headers["date"].endswith(" GMT")
    assert int(first.headers["content-length"]) == len(first.body)
    assert first.headers["content-type"] == "application/json"
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


async def test_http_1_0_ends_with_its_answer(client: Client) -> None:
    client.write(request("GET", "/v1/models", version="1.0"))
    answer = await client.answer()
    assert answer.status == 200
    assert answer.closes
    assert await client.rest() == b""


async def test_http_1_0_may_keep_the_connection(client: Client) -> None:
    for _ in range(3):
        client.write(
            request("GET", "/v1/models", version="1.0", headers={"Connection": "keep-alive"})
        )
        answer = await client.answer()
        assert answer.status == 200
        assert answer.headers["connection"] == "keep-alive"


async def test_http_1_0_needs_no_host(client: Client) -> None:
    client.write(b"GET /health/liveliness HTTP/1.0\r\n\r\n")
    assert (await client.answer()).status == 200


async def test_http_1_0_gets_its_stream_without_chunks(client: Client) -> None:
    body = chat("hello", stream=True)
    keep = {"Connection": "keep-alive"}
    client.write(request("POST", "/v1/chat/completions", body, version="1.0", headers=keep))
    answer = await client.answer()
    assert answer.closes
    assert "transfer-encoding" not in answer.headers
    assert answer.text == "You said: hello"


async def test_connection_close_is_obeyed(client: Client) -> None:
    answer = await client.ask("GET", "/v1/models", headers={"Connection": "close"})
    assert answer.closes
    assert await client.rest() == b""


async def test_connection_close_is_obeyed_after_a_stream(client: Client) -> None:
    body = chat("hello", stream=True)
    answer = await client.ask("POST", "/v1/chat/completions", body, headers={"Connection": "close"})
    assert answer.closes
    assert answer.text == "You said: hello"
    assert await client.rest() == b""


@pytest.mark.parametrize("path", ["/v1/models", "/models/llama", "/health/readiness", "/metrics"])
async def test_head_is_get_without_the_body(client: Client, path: str) -> None:
    head = await client.ask("HEAD", path)
    got = await client.ask("GET", path)  # Anything after the head would be taken for its answer.
    assert head.status == got.status == 200
    assert head.headers["content-type"] == got.headers["content-type"]
    if path != "/metrics":  # which counts the first request
        assert head.headers["content-length"] == got.headers["content-length"]


async def test_an_error_for_head_has_no_body_either(client: Client) -> None:
    assert (await client.ask("HEAD", "/v1/models/none")).status == 404
    assert (await client.ask("HEAD", "/v1/chat/completions")).status == 405
    assert (await client.ask("GET", "/v1/models")).status == 200


async def test_a_chunked_body_is_a_body(client: Client) -> None:
    whole = b'{"model":"llama","messages":[{"role":"user","content":"in pieces"}]}'
    parts = [whole[at : at + 7] for at in range(0, len(whole), 7)]
    client.write(
        request("POST", "/v1/chat/completions", headers={"Transfer-Encoding": "chunked"})
        + chunked(*parts)
    )
    answer = await client.answer()
    assert answer.json()["choices"][0]["message"]["content"] == "You said: in pieces"
    assert not answer.closes


async def test_chunk_extensions_and_trailers_mean_nothing(client: Client) -> None:
    body = b'{"model":"llama","messages":[{"role":"user","content":"x"}]}'
    client.write(
        request("POST", "/v1/chat/completions", headers={"Transfer-Encoding": "Chunked"})
        + b'%x;a=b;c="d e"\r\n%b\r\n0;last\r\nX-Checksum: 1\r\nHost: other\r\n\r\n'
        % (len(body), body)
    )
    assert (await client.answer()).status == 200
    assert (await client.ask("GET", "/v1/models")).status == 200


async def test_a_trailer_is_no_header(client: Client) -> None:
    """A key that comes after the body must not open the door (RFC 9110, 6.5.1)."""
    body = b'{"model":"llama","messages":[{"role":"user","content":"x"}]}'
    key = f"Authorization: Bearer {KEY}\r\n".encode()
    head = {"Transfer-Encoding": "chunked"}
    client.write(
        request("POST", "/v1/chat/completions", key=None, headers=head)
        + chunked(body)[:-2]
        + key
        + b"\r\n"
    )
    assert (await client.answer()).status == 401


async def test_a_body_with_a_get_is_read_and_let_go(client: Client) -> None:
    assert (await client.ask("GET", "/v1/models", b"whatever")).status == 200
    assert (await client.ask("GET", "/v1/models")).status == 200


async def test_empty_lines_before_a_request_are_skipped(client: Client) -> None:
    client.write(b"\r\n\r\n" + request("GET", "/v1/models"))
    assert (await client.answer()).status == 200


# -- Expect


EXPECT = {"Expect": "100-continue"}


async def test_the_body_is_asked_for_before_it_is_sent(client: Client) -> None:
    whole = request("POST", "/v1/chat/completions", chat(), headers=EXPECT)
    head, _, body = whole.partition(b"\r\n\r\n")
    client.write(head + b"\r\n\r\n")
    assert await client.interim() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.write(body)
    answer = await client.answer()
    assert answer.status == 200
    assert not answer.closes


async def test_a_chunked_body_is_asked_for_as_well(client: Client) -> None:
    head = EXPECT | {"Transfer-Encoding": "chunked"}
    client.write(request("POST", "/v1/chat/completions", headers=head))
    assert await client.interim() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.write(chunked(b'{"model":"llama",', b'"messages":[{"role":"user","content":"x"}]}'))
    assert (await client.answer()).status == 200


async def test_a_body_that_is_there_is_not_asked_for(client: Client) -> None:
    for headers in (EXPECT, {"Expect": "100-Continue"}):
        answer = await client.ask("POST", "/v1/chat/completions", chat(), headers=headers)
        assert answer.status == 200


async def test_without_a_body_nothing_is_asked_for(client: Client) -> None:
    assert (await client.ask("GET", "/v1/models", headers=EXPECT)).status == 200


async def test_http_1_0_is_not_asked_for_its_body(client: Client) -> None:
    whole = request("POST", "/v1/chat/completions", chat(), headers=EXPECT, version="1.0")
    head, _, body = whole.partition(b"\r\n\r\n")
    client.write(head + b"\r\n\r\n")
    client.write(body)
    assert (await client.answer()).status == 200


@pytest.mark.parametrize(
    ("path", "key", "length", "status"),
    [
        ("/v1/chat/completions", "wrong", 10, 401),
        ("/v1/nothing", KEY, 10, 404),
        ("/v1/models", KEY, 10, 405),
        ("/v1/chat/completions", KEY, 10**9, 413),
    ],
)
async def test_who_is_refused_need_not_send_the_body(
    client: Client, running: Running, path: str, key: str, length: int, status: int
) -> None:
    headers = EXPECT | {"Content-Length": str(length)}
    client.write(request("POST", path, key=key, headers=headers))
    answer = await client.answer()  # which takes no interim answer
    assert answer.status == status
    assert answer.closes
    assert answer.error["message"]
    assert await client.rest() == b""
    assert running.generations() == 0


@pytest.mark.parametrize("sent", ["nothing", "all"])
async def test_other_expectations_fail(client: Client, running: Running, sent: str) -> None:
    whole = request("POST", "/v1/chat/completions", chat(), headers={"Expect": "200-ok"})
    head, _, body = whole.partition(b"\r\n\r\n")
    client.write(head + b"\r\n\r\n" + (body if sent == "all" else b""))
    answer = await client.answer()
    assert answer.status == 417
    assert answer.error["code"] == "expectation_failed"
    assert running.generations() == 0


# -- targets


@pytest.mark.parametrize(
    "target",
    [
        "/v1/models?limit=5",
        "/v1/models?",
        "/v1/models/",
        "/models",
        "/%761/models",
        "/v1/models#part",
        "http://gateway/v1/models",
        "http://gateway:4000/v1/models?limit=5",
        "https://other.example/v1/models",
        "HTTP://gateway/v1/models",
    ],
)
async def test_a_path_in_all_its_spellings(client: Client, target: str) -> None:
    answer = await client.ask("GET", target)
    assert answer.status == 200
    assert [model["id"] for model in answer.json()["data"]] == ["llama", "org/embed:v1"]


@pytest.mark.parametrize(
    "target",
    ["/", "/v1", "/v2/models", "/v1/models/../models", "//v1/models", "*", "http://gateway", "/%"],
)
async def test_other_paths_are_not_found(client: Client, target: str) -> None:
    answer = await client.ask("GET", target)
    assert answer.status == 404
    assert not answer.closes


async def test_an_absolute_target_serves_a_chat(client: Client) -> None:
    answer = await client.ask("POST", "http://gateway:4000/v1/chat/completions", chat())
    assert answer.status == 200


# -- offers to switch protocols


JAVA = {
    "Connection": "Upgrade, HTTP2-Settings",
    "HTTP2-Settings": "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    "Upgrade": "h2c",
}


async def test_the_offer_of_http_2_is_declined_in_silence(client: Client) -> None:
    """Java's HttpClient makes it with its first request."""
    answer = await client.ask("POST", "/v1/chat/completions", chat("java"), headers=JAVA)
    assert answer.status == 200
    assert answer.json()["choices"][0]["message"]["content"] == "You said: java"
    assert not answer.closes
    assert (await client.ask("GET", "/v1/models")).status == 200


@pytest.mark.parametrize("step", [1, 5, 64])
async def test_the_offer_may_come_in_pieces(client: Client, step: int) -> None:
    whole = request("POST", "/v1/chat/completions", chat(), headers=JAVA)
    for at in range(0, len(whole), step):
        client.write(whole[at : at + step])
        await client.writer.drain()
    assert (await client.answer()).status == 200


async def test_the_offer_may_stand_in_a_pipeline(client: Client) -> None:
    """Each request is answered once, wherever in the read it stood."""
    offer = request("GET", "/v1/models", headers=JAVA)
    plain = request("GET", "/v1/models/llama")
    body = request("POST", "/v1/chat/completions", chat(), headers=JAVA)
    client.write(plain + offer + plain + body + plain)
    kinds = [(await client.answer()).json()["object"] for _ in range(5)]
    assert kinds == ["model", "list", "model", "chat.completion", "model"]
    answer = await client.ask("GET", "/v1/models", headers={"Connection": "close"})
    assert answer.status == 200
    assert await client.rest() == b""


async def test_an_offer_without_its_connection_option_is_none(client: Client) -> None:
    assert (await client.ask("GET", "/v1/models", headers={"Upgrade": "h2c"})).status == 200
    answer = await client.ask("POST", "/v1/chat/completions", chat(), headers={"Upgrade": "h2c"})
    assert answer.status == 200


async def test_a_websocket_is_declined_like_any_other(client: Client) -> None:
    offer = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    assert (await client.ask("GET", "/v1/models", headers=offer)).status == 200


async def test_what_looks_like_the_offer_in_a_body_is_body(client: Client) -> None:
    body = b'{"model":"llama",\r\n\r\n\r\n"messages":[{"role":"user","content":"x"}]}'
    body = body.replace(b"\r\n\r\n\r\n", b"\r\nUpgrade: h2c\r\n")
    answer = await client.ask("POST", "/v1/chat/completions", body, headers=JAVA)
    assert answer.status == 400  # it is no JSON
    assert "JSON" in answer.error["message"]
    assert (await client.ask("GET", "/v1/models")).status == 200


# -- routes


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/chat/completions"),
        ("DELETE", "/v1/models/llama"),
        ("POST", "/v1/models"),
        ("PUT", "/health/liveliness"),
        ("OPTIONS", "/metrics"),
        ("BREW", "/v1/models"),
    ],
)
async def test_a_method_that_does_not_fit(client: Client, method: str, path: str) -> None:
    answer = await client.ask(method, path)
    if method == "BREW":  # llhttp knows the registered methods only
        assert answer.status == 400
        return
    assert answer.status == 405
    assert answer.error["code"] == "method_not_allowed"
    assert not answer.closes


async def test_a_405_says_what_is_allowed(client: Client) -> None:
    """RFC 9110, 15.5.6: it must, in `Allow`."""
    assert (await client.ask("POST", "/v1/models")).headers["allow"] == "GET, HEAD"
    assert (await client.ask("GET", "/v1/embeddings")).headers["allow"] == "POST"


async def test_an_error_leaves_the_connection_usable(client: Client) -> None:
    for method, path, body, status in [
        ("GET", "/v1/nothing", None, 404),
        ("POST", "/v1/chat/completions", b"{", 400),
        ("POST", "/v1/chat/completions", {"model": "none", "messages": []}, 400),
        ("POST", "/v1/chat/completions", chat(model="none"), 404),
        ("POST", "/v1/embeddings", {"model": "llama"}, 400),
    ]:
        answer = await client.ask(method, path, body)
        assert answer.status == status
        assert answer.error["type"] == "invalid_request_error"
        assert not answer.closes
    assert (await client.ask("GET", "/v1/models")).status == 200


async def test_every_open_request_is_counted(launch: Launch) -> None:
    running = await launch()
    client = await running.connect()
    client.write(request("POST", "/v1/chat/completions", headers={"Content-Length": "5"})[:-2])
    client.write(b"\r\n12")
    running_now = running.open
    await until(lambda: running_now()["requests"] == 1)
    client.abort()
    await running.settled()
