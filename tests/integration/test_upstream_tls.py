"""Backends behind TLS: verified, answered, failed over and left like those in the clear."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.integration.arena import MODEL, eventually, serving, settings, sim
from tests.integration.asking import ask, asking, body_of
from tests.server.test_tls import issue

from arriero.core.health import Cause, State
from arriero.testing.ollama import OllamaSim


@asynccontextmanager
async def behind_tls(host: OllamaSim, folder: Path) -> AsyncIterator[str]:
    """Put TLS before a simulated host; the address is returned."""
    port = urlsplit(host.url).port
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*issue(folder, "backend"))

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(pour(reader, outer))
                group.create_task(pour(inner, writer))
        finally:
            for end in (outer, writer):
                end.transport.abort()

    server = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}"


async def pour(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Pass on until the end, and the end itself; whichever side ends takes the other along."""
    try:
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
    except ConnectionError:
        pass  # an abort of one side is an end like any other
    sink.transport.abort() if sink.get_extra_info("ssl_object") else sink.write_eof()


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let this process trust what `behind_tls` shows; the folder is returned."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "backend.crt"))
    return tmp_path


@pytest.mark.parametrize("stream", [False, True])
async def test_it_is_asked_and_its_connection_kept(trusted: Path, *, stream: bool) -> None:
    async with sim() as host, behind_tls(host, trusted) as url, serving(settings(url)) as running:
        for _ in range(3):
            assert (await ask(running.port, stream=stream)).good
        assert host.stats.endpoints["POST /api/chat"] == 3


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    async with (
        sim() as strange,
        sim() as known,
        behind_tls(strange, tmp_path) as url,
        serving(settings(url, known)) as running,
    ):
        for _ in range(4):
            assert (await ask(running.port)).good
        assert running.host("a").breaker.state is State.EJECTED
        assert running.host("a").breaker.cause is Cause.REFUSED
        assert not strange.requests, "not a byte of a prompt went to it"


async def test_a_client_that_leaves_ends_the_generation(trusted: Path) -> None:
    """TLS cannot be closed by halves, so the connection is cut."""
    async with (
        sim(decode_tps=200) as host,
        behind_tls(host, trusted) as url,
        serving(settings(url)) as running,
    ):
        async with asking(running.port, body_of(stream=True, text="in 5000 words")) as asked:
            await asked.until(b'"content"')
        await eventually(lambda: host.stats.cancelled == 1, "the host was told")
        await running.at_rest()
        assert host.stats.of(MODEL).tokens < 5000
        assert (await ask(running.port)).good
