"""Open WebUI's own key, made by arriero's key API: one process's API used by another's command."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.processes import KEY, fleet
from tests.webui.command import Command
from tests.webui.site import Site
from typer.testing import CliRunner

from arriero.cli.main import app

ANN = "ann@example.com"
MODELS = {"phi3-3.8b": "phi3:3.8b", "vectors": "nomic-embed-text,capabilities=embedding"}


@pytest.fixture(scope="module", autouse=True)
def with_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway with a store."""
    folder = tmp_path_factory.mktemp("gateway")
    with fleet(folder, MODELS, 1, store={"url": f"sqlite:///{folder}/arriero.db"}) as (url, _):
        yield url


@pytest.fixture
def command(site: Site, with_store: str, tmp_path: Path) -> Command:
    return Command(site, with_store, tmp_path)


def keys(url: str) -> list[dict[str, Any]]:
    environment = {"ARRIERO_API_KEY": KEY, "ARRIERO_URL": url}
    result = CliRunner().invoke(app, ["keys", "list", "--json"], env=environment)
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def stored(site: Site) -> str:
    key: str = site.admin("GET", "/openai/config")["OPENAI_API_KEYS"][1]
    return key


def test_a_key_is_made_used_and_deleted(site: Site, command: Command, with_store: str) -> None:
    assert "key open-webui: make at the gateway" in command("canary", "--dry-run")["notes"]
    assert keys(with_store) == []
    command("canary", "--yes", "--member", ANN)
    (key,) = keys(with_store)
    assert key["key_alias"] == "open-webui"
    assert key["metadata"] == {"made_by": "arriero webui"}
    assert key["trusted"] is True
    secret = stored(site)
    assert secret.startswith("sk-")
    assert secret != KEY
    assert secret.endswith(key["key_name"][-4:])
    assert not site.as_user(ANN).ask("gw.phi3-3.8b").startswith("4")
    assert command("canary", "--yes", "--member", ANN)["changes"] == []
    assert len(keys(with_store)) == 1
    assert command("rollback", "--yes")["done"][1] == "key open-webui: deleted"
    assert keys(with_store) == []


def test_one_that_was_revoked_is_made_anew(site: Site, command: Command, with_store: str) -> None:
    command("canary", "--yes")
    first = stored(site)
    environment = {"ARRIERO_API_KEY": KEY, "ARRIERO_URL": with_store}
    words = ["keys", "delete", "open-webui"]
    assert CliRunner().invoke(app, words, env=environment).exit_code == 0
    (change,) = command("canary", "--yes")["changes"]
    assert change.endswith("change key")
    assert stored(site) != first
    command("rollback", "--yes")


def test_an_alias_of_somebody_else_stops_it(site: Site, command: Command, with_store: str) -> None:
    environment = {"ARRIERO_API_KEY": KEY, "ARRIERO_URL": with_store}
    words = ["keys", "create", "--alias", "open-webui"]
    assert CliRunner().invoke(app, words, env=environment).exit_code == 0
    said = command("canary", "--yes", code=1)["words"]
    assert "another key has the alias" in said
    assert "--key-alias" in said
    command("rollback", "--yes")
    assert [key["key_alias"] for key in keys(with_store)] == ["open-webui"]
    words = ["keys", "delete", "open-webui"]
    assert CliRunner().invoke(app, words, env=environment).exit_code == 0
