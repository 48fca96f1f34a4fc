"""Each test of the admin API runs twice: against the simulated Open WebUI, and the real one."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.processes import fleet, simulated_ollama
from tests.webui.fake_openwebui import running
from tests.webui.site import Site, real_site

REASON = "ARRIERO_OPENWEBUI names no environment with Open WebUI: scripts/webui-test makes one"


def environment() -> Path | None:
    named = os.environ.get("ARRIERO_OPENWEBUI")
    return Path(named) if named and (Path(named) / "bin/open-webui").exists() else None


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def ollama() -> Iterator[str]:
    """The Ollama that people use directly, before and beside the gateway."""
    with simulated_ollama("llama3:8b-instruct-q8_0") as url:
        yield url


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory, ollama: str) -> Iterator[Site]:
    own = environment()
    if own is None:
        pytest.skip(REASON)
    with real_site(own, tmp_path_factory.mktemp("webui") / "data", free_port(), ollama) as site:
        prepared(site)
        yield site


@pytest.fixture(scope="session")
def simulated(ollama: str) -> Iterator[Site]:
    with running(ollama) as webui:
        site = Site(webui.url, real=False)
        prepared(site)
        yield site


def prepared(site: Site) -> None:
    for email in ("ann@example.com", "bob@example.com"):
        site.add_user(email)


@pytest.fixture(scope="session", params=["simulated", "real"])
def site(request: pytest.FixtureRequest) -> Site:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Site)
    return found


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An arriero before two simulated hosts, with an alias for chats and one for embeddings."""
    models = {"phi3-3.8b": "phi3:3.8b", "vectors": "nomic-embed-text,capabilities=embedding"}
    with fleet(tmp_path_factory.mktemp("gateway"), models) as (url, _):
        yield url
