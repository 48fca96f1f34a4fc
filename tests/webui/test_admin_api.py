"""The whole way there and back through the admin API, by the command as it is called."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from tests.cli.processes import KEY
from tests.webui.command import Command
from tests.webui.fake_openwebui import ADMIN, PASSWORD
from tests.webui.site import Site

MODEL = "gw.phi3-3.8b"
ANN = "ann@example.com"
BOB = "bob@example.com"


@pytest.fixture
def command(site: Site, gateway: str, tmp_path: Path) -> Command:
    return Command(site, gateway, tmp_path)


def export(site: Site) -> str:
    return json.dumps(site.admin("GET", "/api/v1/configs/export"))


def everything(site: Site) -> tuple[str, Any, Any]:
    models = site.admin("GET", "/api/v1/models/all")
    return export(site), site.admin("GET", "/api/v1/groups/"), models


def test_there_and_back(site: Site, command: Command) -> None:
    before = everything(site)
    assert command("status")["phase"] == "none"

    done = command("canary", "--yes", "--member", ANN)
    assert done["default"] == MODEL
    assert len(done["changes"]) == 4
    ann, bob = site.as_user(ANN), site.as_user(BOB)
    assert ann.models() == [MODEL]
    assert ann.default() == MODEL
    assert ann.ask(MODEL)
    assert not ann.ask(MODEL).startswith("4")
    assert bob.models() == []
    assert bob.default() in (None, "")
    assert bob.ask(MODEL).startswith("400")
    assert command("status")["phase"] == "canary"

    done = command("promote", "--yes")
    assert done["default"] == MODEL
    assert bob.models() == [MODEL]
    assert bob.default() == MODEL
    assert not bob.ask(MODEL).startswith("4")
    page = command("status")
    assert page["phase"] == "promoted"
    assert page["models"] == [{"id": MODEL, "everybody": True, "groups": 1}]

    done = command("rollback", "--yes")
    assert "byte for byte" in done["done"][0]
    assert everything(site) == before
    assert bob.models() == []
    assert command("status")["phase"] == "none"


def test_a_dry_run_changes_nothing(site: Site, command: Command) -> None:
    before = everything(site)
    plan = command("canary", "--dry-run", "--member", ANN)
    assert any("add http" in change for change in plan["changes"])
    assert everything(site) == before
    assert not command.snapshot.exists()


def test_nothing_is_changed_without_a_yes(site: Site, command: Command) -> None:
    before = everything(site)
    assert "hint: --yes" in command("canary", "--member", ANN, code=2)["words"]
    assert everything(site) == before
    assert not command.snapshot.exists()


def test_a_second_run_changes_nothing(site: Site, command: Command) -> None:
    command("canary", "--yes", "--member", ANN)
    kept, there = command.snapshot.read_bytes(), everything(site)
    assert command("canary", "--yes", "--member", ANN)["changes"] == []
    assert command.snapshot.read_bytes() == kept
    assert everything(site) == there
    command("promote", "--yes")
    assert command("promote", "--yes")["changes"] == []
    command("rollback", "--yes")
    assert "nothing to change" in command("rollback", "--yes")["done"][0]


def test_a_member_more_is_a_change_of_one(site: Site, command: Command) -> None:
    command("canary", "--yes", "--member", ANN)
    assert command("canary", "--yes", "--member", BOB)["changes"] == ["group canary: add 1 member"]
    assert site.as_user(BOB).models() == [MODEL]
    assert command("status")["members"] == 2
    command("rollback", "--yes")


def test_direct_ollama_stays(site: Site, command: Command, ollama: str) -> None:
    asked = site.admin("GET", "/ollama/config")
    note = f"direct Ollama stays as the fallback: {ollama}"
    assert note in command("canary", "--yes", "--member", ANN)["notes"]
    command("promote", "--yes")
    assert site.admin("GET", "/ollama/config") == asked
    command("rollback", "--yes")


def test_a_connection_that_slept_goes_on_sleeping(site: Site, command: Command) -> None:
    command("canary", "--yes", "--member", ANN)
    config = site.admin("GET", "/openai/config")
    assert config["ENABLE_OPENAI_API"] is True
    assert config["OPENAI_API_CONFIGS"]["0"]["enable"] is False
    ours = config["OPENAI_API_CONFIGS"]["1"]
    assert ours["headers"]["X-OpenWebUI-User-Id"] == "{{USER_ID}}"
    assert ours["headers"]["X-OpenWebUI-Chat-Id"] == "{{CHAT_ID}}"
    assert ours["headers"]["X-OpenWebUI-Task"] == "{{TASK}}"
    command("rollback", "--yes")


def test_what_was_there_before_comes_back(site: Site, command: Command) -> None:
    """A group, a record, a connection and a default of the administrator's own."""
    first = site.admin("GET", "/openai/config")
    own = {
        "ENABLE_OPENAI_API": True,
        "OPENAI_API_BASE_URLS": ["http://127.0.0.1:9/v1"],
        "OPENAI_API_KEYS": ["sk-of-another"],
        "OPENAI_API_CONFIGS": {"0": {"enable": False, "prefix_id": "other"}},
    }
    site.admin("POST", "/openai/config/update", own)
    form = {"name": "canary", "description": "mine", "data": {"config": {"default_models": ["x"]}}}
    group = site.admin("POST", "/api/v1/groups/create", form)["id"]
    record: dict[str, Any] = {"id": MODEL, "name": "Phi", "params": {}}
    record |= {"meta": {"description": "mine"}}
    record |= {"access_grants": [], "base_model_id": None}
    site.admin("POST", "/api/v1/models/create", record)
    defaults = site.admin("GET", "/api/v1/configs/models")
    site.admin("POST", "/api/v1/configs/models", defaults | {"DEFAULT_MODELS": "x,y"})

    changed = (export(site), site.admin("GET", f"/api/v1/groups/id/{group}/export")["data"])
    command("canary", "--yes", "--member", ANN)
    assert site.as_user(ANN).default() == MODEL
    command("promote", "--yes")
    assert site.as_user(BOB).default() == MODEL
    command("rollback", "--yes")
    there = site.admin("GET", f"/api/v1/groups/id/{group}/export")
    assert (export(site), there["data"]) == changed
    assert there["user_ids"] == []
    (back,) = site.admin("GET", "/api/v1/models/all")
    assert (back["name"], back["meta"]["description"]) == ("Phi", "mine")
    assert back["access_grants"] == []

    site.admin("POST", "/api/v1/models/model/delete", {"id": MODEL})
    site.admin("DELETE", f"/api/v1/groups/id/{group}/delete")
    site.admin("POST", "/api/v1/configs/models", defaults)
    site.admin("POST", "/openai/config/update", first)


def test_what_others_changed_is_not_undone_unasked(site: Site, command: Command) -> None:
    command("canary", "--yes", "--member", ANN)
    config = site.admin("GET", "/openai/config")
    config["OPENAI_API_BASE_URLS"].append("http://127.0.0.1:9/v1")
    config["OPENAI_API_KEYS"].append("sk-of-another")
    config["OPENAI_API_CONFIGS"]["2"] = {"enable": False}
    site.admin("POST", "/openai/config/update", config)
    said = command("rollback", "--yes", code=1)["words"]
    assert "somebody else changed" in said
    assert "sk-of-another" not in said
    assert len(site.admin("GET", "/openai/config")["OPENAI_API_BASE_URLS"]) == 3
    command("rollback", "--yes", "--force")
    assert len(site.admin("GET", "/openai/config")["OPENAI_API_BASE_URLS"]) == 1


def test_the_way_back_is_for_its_owner_alone(site: Site, command: Command) -> None:
    os.umask(umask := os.umask(0))
    os.umask(0)
    try:
        command("canary", "--yes", "--member", ANN)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(command.snapshot.stat().st_mode) == 0o600
    assert [path.name for path in command.snapshot.parent.iterdir()] == ["before.json"]
    command("rollback", "--yes")


def test_the_master_key_in_open_webui_is_told(site: Site, command: Command) -> None:
    done = command("canary", "--yes", "--member", ANN)
    assert "the gateway has no key API" in done["notes"][0]
    assert site.admin("GET", "/openai/config")["OPENAI_API_KEYS"][1] == KEY
    command("rollback", "--yes")


def test_a_watch_chats_through_open_webui_and_reads_the_counters(
    site: Site, command: Command
) -> None:
    done = command("canary", "--yes", "--member", ANN, "--watch", "0.5", "--every", "0.1")
    verdicts = {finding["step"]: finding["verdict"] for finding in done["watch"]}
    assert verdicts["chats through Open WebUI"] == "pass"
    assert verdicts["requests at the gateway"] == "pass"
    limit = ("--latency-max", "0")
    done = command("canary", "--yes", "--watch", "0.1", "--every", "0.1", *limit, code=1)
    assert done["changes"] == []
    assert {f["step"] for f in done["watch"] if f["verdict"] == "fail"} >= {"time of a chat"}
    command("rollback", "--yes")


def test_a_gateway_out_of_reach_stops_before_anything_changes(site: Site, command: Command) -> None:
    before = everything(site)
    said = command("canary", "--yes", "--url", "http://127.0.0.1:9", code=1)["words"]
    assert "gets no models from http://127.0.0.1:9/v1" in said
    assert "hint:" in said
    command.environment["ARRIERO_API_KEY"] = "sk-wrong-0123456789"
    assert "HTTP 401" in command("canary", "--yes", code=1)["words"]
    assert everything(site) == before


def test_wrong_words_are_told_with_the_near_ones(site: Site, command: Command) -> None:
    said = command("canary", "--yes", "--member", "anne@example.com", code=2)["words"]
    assert "hint: did you mean ann@example.com?" in said
    said = command("canary", "--yes", "--model", "phi3-3.8", code=2)["words"]
    assert "hint: did you mean phi3-3.8b?" in said
    command.environment["ARRIERO_WEBUI_TOKEN"] = site.as_user(ANN).token
    assert "must be an administrator" in command("canary", "--yes", code=2)["words"]
    assert "no canary" in command("promote", "--yes", code=2)["words"]


def test_signing_in_with_a_password(site: Site, command: Command, tmp_path: Path) -> None:
    del command.environment["ARRIERO_WEBUI_TOKEN"]
    assert "hint: --email" in command("status", code=2)["words"]
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    by_file = ("status", "--email", ADMIN, "--password-file", str(tmp_path / "password"))
    assert command(*by_file)["phase"] == "none"
    command.environment |= {"ARRIERO_WEBUI_EMAIL": ADMIN, "ARRIERO_WEBUI_PASSWORD": "pw-guessed"}
    assert f"refuses {ADMIN}" in command("status", code=2)["words"]
