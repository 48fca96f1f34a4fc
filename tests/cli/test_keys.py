"""`arriero keys`, `usage` and `store`, through a running service and on the store itself."""

import csv
import io
import json
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.processes import KEY, fleet, write_config
from tests.store.conftest import prepared_file
from typer.testing import CliRunner, Result

from arriero.cli.main import app
from arriero.store.opening import open_store

__all__ = ["prepared_file"]

MODELS = {"llama": "llama3:8b"}
Run = Callable[..., Result]


@pytest.fixture(scope="module", autouse=True)
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway with a store, as a process."""
    folder = tmp_path_factory.mktemp("service")
    with fleet(folder, MODELS, 1, store={"url": f"sqlite:///{folder}/arriero.db"}) as (url, _):
        yield url


@pytest.fixture(params=["service", "store"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Return a function that runs `arriero`, in both ways."""
    more: tuple[str, ...] = ()
    environment = {"ARRIERO_API_KEY": KEY, "NO_COLOR": "1", "COLUMNS": "200"}
    if request.param == "service":
        environment["ARRIERO_URL"] = request.getfixturevalue("service")
    else:
        shutil.copy(request.getfixturevalue("prepared_file"), tmp_path / "arriero.db")
        more = ("--state-directory", str(tmp_path))

    def call(*words: str, code: int = 0, text: str | None = None) -> Result:
        result = CliRunner().invoke(app, [*words, *more], input=text, env=environment)
        assert result.exit_code == code, f"{result.stdout}{result.stderr}{result.exception}"
        assert KEY not in result.output
        if code:
            assert result.stdout == ""
            assert "hint: " in result.stderr
        return result

    return call


def made(run: Run, *words: str) -> str:
    """Make a key; return its secret, which stands alone on stdout."""
    result = run("keys", "create", *words)
    (secret,) = result.stdout.splitlines()
    assert secret.startswith("sk-")
    assert secret not in result.stderr
    return secret


def shown(run: Run, key: str) -> Any:
    return json.loads(run("keys", "show", key, "--json").stdout)


def test_a_life_of_a_key(run: Run) -> None:
    secret = made(run, "--alias", "life", "--model", "llama", "--duration", "30d", "--user", "ann",
                  "--requests-per-minute", "5", "--metadata", '{"a": 1}', "--trusted")  # fmt: skip
    found = shown(run, "life")
    assert (found["models"], found["user_id"], found["rpm_limit"]) == (["llama"], "ann", 5)
    assert (found["metadata"], found["trusted"], found["status"]) == ({"a": 1}, True, "active")
    assert secret not in run("keys", "show", "life").stdout
    run("keys", "update", "life", "--clear", "models", "--tokens-per-day", "7", "--untrusted")
    found = shown(run, found["token_id"])
    assert (found["models"], found["tpd_limit"], found["trusted"]) == ([], 7, False)
    result = run("keys", "rotate", "life", "--grace", "1h")
    (new,) = result.stdout.splitlines()
    assert new != secret
    assert run("keys", "show", "-", "--json", text=f"{new}\n").stdout == json_of(run, "life")
    assert run("keys", "show", "-", "--json", text=f"{secret}\n").stdout == json_of(run, "life")
    run("keys", "block", "life")
    assert shown(run, "life")["status"] == "revoked"
    run("keys", "unblock", "-", text=new)
    assert shown(run, "life")["status"] == "active"
    entries = json.loads(run("keys", "audit", "--of", "life", "--json").stdout)
    run("keys", "delete", "life")
    run("keys", "show", "life", code=1)
    actions = [one["action"] for one in entries]
    assert actions == ["unblock", "block", "rotate", "update", "create"]
    assert secret not in json.dumps(entries)


def json_of(run: Run, key: str) -> str:
    return run("keys", "show", key, "--json").stdout


def test_an_own_secret_comes_by_standard_input(run: Run) -> None:
    own = "sk-own-by-stdin-0123456789"
    result = run("keys", "create", "--alias", "own", "--own-secret", text=f"{own}\n")
    assert result.stdout == f"{own}\n"
    again = "sk-own-another-0123456789"
    assert run("keys", "rotate", "own", "--own-secret", text=again).stdout == f"{again}\n"
    run("keys", "delete", "own")


def test_lists_are_whole(run: Run) -> None:
    aliases = {f"list-{number}" for number in range(3)}
    for alias in aliases:
        made(run, "--alias", alias, "--user", "lister")
    found = json.loads(run("keys", "list", "--user", "lister", "--json").stdout)
    assert {one["key_alias"] for one in found} == aliases
    assert {one["key_alias"] for one in json.loads(run("keys", "list", "--search", "LIST-1",
                                                       "--json").stdout)} == {"list-1"}  # fmt: skip
    printed = run("keys", "list", "--user", "lister").stdout
    assert all(alias in printed for alias in aliases)
    run("keys", "delete", *sorted(aliases))
    assert json.loads(run("keys", "list", "--user", "lister", "--json").stdout) == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("keys", "show", "nobody"), 1),
        (("keys", "block", "nobody"), 1),
        (("keys", "delete", "nobody"), 1),
        (("keys", "create", "--duration", "soon"), 2),
        (("keys", "create", "--role", "god"), 2),
        (("keys", "create", "--metadata", "{"), 2),
        (("keys", "create", "--alias", "sk-0123456789abcdef"), 2),
        (("keys", "update", "nobody", "--clear", "everything"), 2),
        (("keys", "audit", "--limit", "5", "--of", "x", "--json"), 0),
        (("usage", "--by", "moon"), 2),
        (("usage", "--from", "yesterday"), 2),
        (("usage", "--csv", "--json"), 2),
        (("usage", "--of", "nobody"), 1),
    ],
)
def test_what_is_wrong_is_told(run: Run, words: tuple[str, ...], code: int) -> None:
    run(*words, code=code)


def test_an_alias_is_given_once(run: Run) -> None:
    made(run, "--alias", "once")
    assert "once" in run("keys", "create", "--alias", "once", code=1).stderr
    run("keys", "delete", "once")


def test_usage_is_told(run: Run, service: str, request: pytest.FixtureRequest) -> None:
    if "store" in request.node.name:
        assert json.loads(run("usage", "--json").stdout) == []
        assert run("usage", "--requests", "--csv").stdout.startswith("request_id,time,")
        return
    secret = made(run, "--alias", "user")
    body = {"model": "llama", "messages": [{"role": "user", "content": "Hello!"}]}
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    asked = urllib.request.Request(
        f"{service}/v1/chat/completions", json.dumps(body).encode(), headers
    )
    for _ in range(3):
        with urllib.request.urlopen(asked, timeout=20) as answer:
            assert answer.status == 200
    rows = list(csv.DictReader(io.StringIO(run("usage", "--by", "key", "--csv").stdout)))
    (row,) = [one for one in rows if one["key_alias"] == "user"]
    assert row["requests"] == "3"
    single = json.loads(run("usage", "--requests", "--of", "user", "--json").stdout)
    assert len(single) == 3
    assert "user" in run("usage", "--by", "day,key").stdout
    assert "llama3:8b" not in run("usage", "--requests").stdout
    run("keys", "delete", "user")


def test_a_service_that_is_down_is_told_with_the_other_way() -> None:
    environment = {"ARRIERO_API_KEY": KEY, "ARRIERO_URL": "http://127.0.0.1:1"}
    result = CliRunner().invoke(app, ["keys", "list"], env=environment)
    assert result.exit_code == 3
    assert "connection refused" in result.stderr
    assert "--state-directory" in result.stderr


@pytest.mark.parametrize("key", ["sk-nobody-0123456789", ""])
def test_a_bad_key_is_told(service: str, key: str) -> None:
    environment = {"ARRIERO_API_KEY": key, "ARRIERO_URL": service}
    result = CliRunner().invoke(app, ["keys", "list"], env=environment)
    assert result.exit_code == (3 if key else 2)
    assert "hint: " in result.stderr


def test_a_gateway_without_a_store_tells_the_way_out(tmp_path: Path) -> None:
    with fleet(tmp_path, MODELS, 1) as (url, _):
        environment = {"ARRIERO_API_KEY": KEY, "ARRIERO_URL": url}
        result = CliRunner().invoke(app, ["keys", "list"], env=environment)
    assert result.exit_code == 3
    assert "--state-directory" in result.stderr


def test_no_store_is_made_by_the_way(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["keys", "list", "--state-directory", str(tmp_path / "typo")])
    assert result.exit_code == 2
    assert "arriero store migrate" in result.stderr
    assert not (tmp_path / "typo").exists()


def test_a_key_made_while_the_service_is_down_is_good_when_it_is_up(tmp_path: Path) -> None:
    store = {"url": f"sqlite:///{tmp_path}/arriero.db"}
    config = write_config(tmp_path, ["http://127.0.0.1:1"], MODELS, store=store)
    runner = CliRunner()
    assert runner.invoke(app, ["store", "migrate", "--config", str(config)]).exit_code == 0
    result = runner.invoke(app, ["keys", "create", "--role", "admin", "--config", str(config)])
    assert result.exit_code == 0, result.output
    own = ["keys", "create", "--own-secret", "--config", str(config)]
    refused = runner.invoke(app, own, input=KEY)
    assert refused.exit_code == 1, "the master key of the configuration is taken"
    with fleet(tmp_path, MODELS, 1, store=store) as (url, _):
        environment = {"ARRIERO_API_KEY": result.stdout.strip(), "ARRIERO_URL": url}
        listed = runner.invoke(app, ["keys", "list", "--json"], env=environment)
    (found,) = json.loads(listed.stdout)
    assert found["created_by"].startswith("local:")


def test_what_the_command_line_changes_counts_for_a_running_service(tmp_path: Path) -> None:
    store = {"url": f"sqlite:///{tmp_path}/arriero.db"}
    with fleet(tmp_path, MODELS, 1, store=store) as (url, _):
        words = ["keys", "create", "--state-directory", str(tmp_path)]
        secret = CliRunner().invoke(app, words).stdout.strip()
        environment = {"ARRIERO_API_KEY": secret, "ARRIERO_URL": url}
        said, limit_s = "not valid", time.monotonic() + 20
        while "not valid" in said and time.monotonic() < limit_s:  # it looks twice a second
            said = CliRunner().invoke(app, ["keys", "list"], env=environment).stderr
        assert "this key may see itself" in said


def test_a_backup_of_a_running_service(tmp_path: Path) -> None:
    store = {"url": f"sqlite:///{tmp_path}/arriero.db"}
    with fleet(tmp_path, MODELS, 1, store=store) as (url, _):
        environment = {"ARRIERO_API_KEY": KEY, "ARRIERO_URL": url}
        CliRunner().invoke(app, ["keys", "create", "--alias", "kept"], env=environment)
        words = ["store", "backup", str(tmp_path / "copy.db"), "--state-directory", str(tmp_path)]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
    copy = open_store(f"sqlite:///{tmp_path}/copy.db")
    assert [key.alias for key in copy.load_keys().changed] == ["kept"]
    copy.close()
    assert CliRunner().invoke(app, words).exit_code == 3, "nothing is written over"
    assert CliRunner().invoke(app, ["store", "backup", "x"]).exit_code == 2
