"""TLS: certificates from files, renewed while it serves; everything else as in the clear."""

import ssl
import subprocess
import warnings
from pathlib import Path

import pytest
from tests.server.client import Client, chat, request
from tests.server.conftest import Launch
from tests.server.running import LONG_ANSWER, Running, until

from arriero.config.settings import Tls
from arriero.server.connection import LINGER_QUIET_S
from arriero.testing.ollama import Fault, Kind


def issue(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate of its own making, and its key."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-x509"]
    subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(  # once or twice a test, and 20 ms each
        ["openssl", "req", *curve, *subject, *files], check=True, capture_output=True
    )
    return certificate, key


def trusting(*certificates: Path, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for certificate in certificates:
        context.load_verify_locations(certificate)
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


class Pair:
    """The files that the gateway serves from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate, self.key = issue(folder, "first")
        self.settings = Tls(
            certificate=str(self.certificate), key=str(self.key), reload_check_s=0.02
        )
        self.trust = trusting(self.certificate)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


@pytest.fixture
def server(pair: Pair) -> dict[str, Tls]:
    return {"tls": pair.settings}


def name(client: Client) -> str:
    """Return whom the gateway's certificate names."""
    certificate = client.writer.get_extra_info("peercert")
    subject: dict[str, str] = dict(part for parts in certificate["subject"] for part in parts)
    return subject["commonName"]


async def test_it_serves(launch: Launch, pair: Pair, server: dict[str, Tls]) -> None:
    running = await launch(server=server)
    client = await running.connect(tls=pair.trust)
    assert name(client) == "first"
    for _ in range(3):
        assert (await client.ask("POST", "/v1/chat/completions", chat())).status == 200
    stream = await client.ask("POST", "/v1/chat/completions", chat(stream=True))
    assert stream.text == "You said: hello"
    last = await client.ask("GET", "/v1/models", headers={"Connection": "close"})
    assert last.closes
    assert await client.rest() == b""


async def test_only_http_1_1_is_offered(launch: Launch, server: dict[str, Tls], pair: Pair) -> None:
    running = await launch(server=server)
    both = trusting(pair.certificate, alpn=("h2", "http/1.1"))
    client = await running.connect(tls=both)
    assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"


async def test_old_versions_are_refused(launch: Launch, pair: Pair, server: dict[str, Tls]) -> None:
    running = await launch(server=server)
    assert running.service._tls is not None
    assert running.service._tls.minimum_version == ssl.TLSVersion.TLSv1_2
    old = trusting(pair.certificate)
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):  # that it is deprecated is the point
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        await running.connect(tls=old)


async def test_a_client_without_tls_is_let_go(launch: Launch, server: dict[str, Tls]) -> None:
    running = await launch(server=server)
    client = await running.connect()
    client.write(request("GET", "/v1/models"))
    assert b"HTTP/1.1 200" not in await client.rest()


async def test_a_renewed_certificate_serves_new_connections(
    launch: Launch, pair: Pair, server: dict[str, Tls]
) -> None:
    running = await launch(server=server)
    old = await running.connect(tls=pair.trust)
    certificate, key = issue(pair.folder, "second")
    key.replace(pair.key)
    trust = trusting(certificate)
    certificate.replace(pair.certificate)
    await until(lambda: "certificate reloaded" in running.events.names())
    new = await running.connect(tls=trust)
    assert name(new) == "second"
    assert (await new.ask("GET", "/v1/models")).status == 200
    assert (await old.ask("GET", "/v1/models")).status == 200  # begun under the old one


@pytest.mark.parametrize("half", ["the certificate", "the key", "nonsense", "nothing"])
async def test_half_a_pair_changes_nothing(
    launch: Launch, pair: Pair, server: dict[str, Tls], half: str
) -> None:
    running = await launch(server=server)
    certificate, key = issue(pair.folder, "second")
    trust = trusting(certificate)
    match half:
        case "the certificate":
            certificate.replace(pair.certificate)
        case "the key":
            key.replace(pair.key)
        case "nonsense":
            pair.certificate.write_text("no certificate")
        case _:
            pair.certificate.unlink()
    await until(lambda: "certificate not reloaded" in running.events.names())
    client = await running.connect(tls=pair.trust)
    assert name(client) == "first"
    assert (await client.ask("GET", "/v1/models")).status == 200
    if half == "the certificate":  # and the other half makes it whole
        key.replace(pair.key)
        await until(lambda: "certificate reloaded" in running.events.names())
        assert name(await running.connect(tls=trust)) == "second"


async def test_a_long_stream_arrives_whole(
    launch: Launch, pair: Pair, server: dict[str, Tls]
) -> None:
    running = await launch(server=server)
    client = await running.connect(tls=pair.trust, receive_bytes=4096)
    body = chat("long", stream=True)
    headers = {"Connection": "close"}
    client.write(request("POST", "/v1/chat/completions", body, headers=headers))
    await until(lambda: running.gateway.connections and running.connection().write_paused)
    answer = await client.answer()
    assert answer.text == LONG_ANSWER
    assert await client.rest() == b""


async def test_a_long_answer_arrives_whole_before_the_close(
    launch: Launch, pair: Pair, server: dict[str, Tls]
) -> None:
    running = await launch(server=server)
    client = await running.connect(tls=pair.trust, receive_bytes=4096)
    headers = {"Connection": "close"}
    client.write(request("POST", "/v1/chat/completions", chat("long"), headers=headers))
    await until(lambda: running.open()["requests"] == 0 and running.gateway.connections)
    running.sweep_after(0)
    running.sweep_after(LINGER_QUIET_S + 0.5)  # a slow reader is no silent client
    answer = await client.answer()
    assert answer.json()["choices"][0]["message"]["content"] == LONG_ANSWER


async def test_a_refused_client_hears_why(
    launch: Launch, pair: Pair, server: dict[str, Tls]
) -> None:
    running = await launch(server=server)
    client = await running.connect(tls=pair.trust)
    length = {"Content-Length": "99999999"}
    client.write(request("POST", "/v1/chat/completions", headers=length))
    answer = await client.answer()
    assert answer.status == 413
    assert answer.closes
    assert await client.rest() == b""


async def test_a_client_that_leaves_takes_its_request_along(
    launch: Launch, pair: Pair, server: dict[str, Tls]
) -> None:
    running = await launch(server=server)
    running.sims[0].faults.add(Fault(kind=Kind.HANG_MID, after=1, count=1))
    client = await running.connect(tls=pair.trust)
    client.write(request("POST", "/v1/chat/completions", chat(stream=True)))
    await until(lambda: running.open()["in flight"])
    client.abort()
    await running.settled()
    assert running.sims[0].stats.cancelled == 1


async def test_what_does_not_finish_is_settled_at_the_end(
    launch: Launch, pair: Pair, server: dict[str, Tls]
) -> None:
    running: Running = await launch(server={**server, "drain_timeout_s": 0.05})
    running.sims[0].faults.add(Fault(kind=Kind.HANG_MID, after=1, count=1))
    client = await running.connect(tls=pair.trust)
    client.write(request("POST", "/v1/chat/completions", chat(stream=True)))
    await until(lambda: running.open()["in flight"])
    running.service.stop()
    assert running.task is not None
    await running.task
    assert not any(running.open().values()), running.open()


async def test_a_refused_client_that_is_still_sending_hears_why(
    launch: Launch, pair: Pair, server: dict[str, Tls]
) -> None:
    running = await launch(server=server)
    client = await running.connect(tls=pair.trust)
    client.write(request("POST", "/v1/x", key="x", headers={"Content-Length": "99999999"}))
    for _ in range(64):
        client.write(b"z" * 65_536)
        await client.writer.drain()
    answer = await client.answer()
    assert answer.status == 401
