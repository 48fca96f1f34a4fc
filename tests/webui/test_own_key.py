"""A key of Open WebUI's own, where the gateway makes keys."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.processes import KEY
from tests.webui.command import Command
from tests.webui.fake_keys import KeyGateway, running
from tests.webui.site import Site

ANN = "ann@example.com"


@pytest.fixture
def keys(gateway: str) -> Iterator[KeyGateway]:
    with running(gateway, KEY) as found:
        yield found


@pytest.fixture
def command(site: Site, keys: KeyGateway, tmp_path: Path) -> Command:
    return Command(site, keys.url, tmp_path)


def stored(site: Site) -> str:
    key: str = site.admin("GET", "/openai/config")["OPENAI_API_KEYS"][1]
    return key


def test_it_is_made_used_kept_and_deleted(site: Site, command: Command, keys: KeyGateway) -> None:
    assert "key open-webui: make at the gateway" in command("canary", "--dry-run")["notes"]
    assert keys.keys == {}
    command("canary", "--yes", "--member", ANN)
    assert stored(site) == keys.keys["open-webui"]
    assert not site.as_user(ANN).ask("gw.phi3-3.8b").startswith("4")
    assert KEY not in command.snapshot.read_text()
    assert command("canary", "--yes", "--member", ANN)["changes"] == []
    assert keys.made == 1
    assert command("rollback", "--yes")["done"][1] == "key open-webui: deleted"
    assert keys.keys == {}


def test_one_that_was_revoked_is_made_anew(site: Site, command: Command, keys: KeyGateway) -> None:
    command("canary", "--yes")
    del keys.keys["open-webui"]
    (change,) = command("canary", "--yes")["changes"]
    assert change.endswith("change key")
    assert stored(site) == keys.keys["open-webui"] == "sk-virtual-00000002"
    command("rollback", "--yes")


def test_the_master_key_gives_way_once_there_are_keys(
    site: Site, command: Command, keys: KeyGateway
) -> None:
    keys.faults.add("no_database")
    notes = command("canary", "--yes", "--member", ANN)["notes"]
    assert "DB not connected" in notes[0]
    assert stored(site) == KEY
    keys.faults.clear()
    command("canary", "--yes")
    assert stored(site) == keys.keys["open-webui"]
    command("rollback", "--yes")


def test_an_alias_of_somebody_else_stops_it(site: Site, command: Command, keys: KeyGateway) -> None:
    keys.keys["open-webui"] = "sk-of-somebody-else"
    before = site.admin("GET", "/openai/config")
    said = command("canary", "--yes", code=1)["words"]
    assert "already exists" in said
    assert "--key-alias" in said
    assert site.admin("GET", "/openai/config") == before
    command("rollback", "--yes")
    assert keys.keys == {"open-webui": "sk-of-somebody-else"}
    command("canary", "--yes", "--key-alias", "open-webui-2")
    assert stored(site) == keys.keys["open-webui-2"]
    command("rollback", "--yes")
    assert list(keys.keys) == ["open-webui"]


def test_without_the_gateway_the_key_is_told_of(
    site: Site, command: Command, keys: KeyGateway
) -> None:
    command("canary", "--yes")
    del command.environment["ARRIERO_API_KEY"]
    done = command("rollback", "--yes")["done"]
    assert done[1].startswith("the gateway's key open-webui is still valid")


def test_the_gateway_learns_who_asks(site: Site, command: Command, keys: KeyGateway) -> None:
    command("canary", "--yes", "--member", ANN)
    users = site.admin("GET", "/api/v1/users/all")["users"]
    (ann,) = [user["id"] for user in users if user["email"] == ANN]
    site.as_user(ANN).models()
    site.as_user(ANN).ask("gw.phi3-3.8b")
    headers = keys.seen[-1]
    assert headers["x-openwebui-user-id"] == ann
    # A call of the API belongs to no conversation and is no task; the names are there all the same.
    assert headers["x-openwebui-chat-id"] == headers["x-openwebui-task"] == ""
    command("rollback", "--yes")
