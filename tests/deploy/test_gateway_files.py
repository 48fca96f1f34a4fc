"""What the gateway's role writes, rendered from group_vars, judged by those who will read it."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.deploy.playing import ANSIBLE, Player, missing
from tests.deploy.rendering import ROLE, render, unit

from arriero.app.configfile import read_config
from arriero.config.load import Loaded

EXPOSURE_MAX = 1.5
ENGINES = ["arriero", "litellm"]
GROUP_VARS = yaml.safe_load((ANSIBLE / "group_vars/all/main.yml").read_text())


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Give the folders of both engines' files."""
    why = missing()
    if why:
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("rendered")
    control = folder / "control"
    control.mkdir()
    player = Player(control)
    return {engine: render(player, folder, engine) for engine in ENGINES}


@pytest.fixture(params=ENGINES)
def files(rendered: dict[str, Path], request: pytest.FixtureRequest) -> Path:
    """Give one engine's files after the other's."""
    return rendered[str(request.param)]


def loaded(files: Path, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    monkeypatch.setenv("ARRIERO_MASTER_KEY", "sk-stands-for-the-credential")
    return read_config(files / "litellm.config.yaml")


def test_arriero_serves_every_alias_on_every_backend(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = loaded(files, monkeypatch).config
    assert [model.name for model in config.models] == ["phi3-3.8b", "llama3-8b"]
    assert [backend.url for backend in config.backends] == [
        "http://hx-llm01-server.dev-test.hana-x.ai:11434",
        "http://hx-llm02-server.dev-test.hana-x.ai:11434",
    ]
    for model in config.models:
        assert [route.backend for route in model.routes] == [b.name for b in config.backends]


def test_arriero_has_nothing_to_say_about_its_own_file(
    rendered: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert loaded(rendered["arriero"], monkeypatch).notes == []


def test_litellm_knows_the_provider_of_every_entry(files: Path) -> None:
    """It drops an entry without a prefix at its start, and serves the rest, if any."""
    document = yaml.safe_load((files / "litellm.config.yaml").read_text())
    entries = document["model_list"]
    assert len(entries) == len(GROUP_VARS["litellm_models"]) * len(GROUP_VARS["litellm_backends"])
    for entry in entries:
        assert entry["litellm_params"]["model"].startswith("ollama_chat/")
        assert set(entry) == {"model_name", "litellm_params", "model_info"}
        # Unknown keys here would be sent to Ollama as options.
        assert set(entry["litellm_params"]) == {"model", "api_base", "timeout"}
    assert set(document) <= {
        "model_list", "router_settings", "general_settings", "litellm_settings",
    }  # fmt: skip
    assert set(document["router_settings"]) == {"routing_strategy", "num_retries"}


def test_no_file_holds_a_key(files: Path) -> None:
    for path in files.iterdir():
        text = path.read_text().replace("sk-stands-for-the-credential", "")
        assert "sk-" not in text
    document = yaml.safe_load((files / "litellm.config.yaml").read_text())
    assert "master_key" not in document.get("general_settings", {})


def test_what_a_model_asks_for_is_passed_on(tmp_path: Path, player: Player) -> None:
    models = [
        {"name": "embed", "model": "nomic-embed-text", "mode": "embedding"},
        {"name": "long", "model": "llama3:8b", "num_ctx": 8192, "max_input_tokens": 7000},
    ]
    files = render(player, tmp_path, "litellm", litellm_models=models)
    entries = yaml.safe_load((files / "litellm.config.yaml").read_text())["model_list"]
    embed, long = entries[0], entries[2]
    assert embed["litellm_params"]["model"] == "ollama/nomic-embed-text"
    assert embed["model_info"] == {"mode": "embedding"}
    assert long["litellm_params"]["num_ctx"] == 8192
    assert long["model_info"] == {"mode": "chat", "max_input_tokens": 7000}


# -- units


def test_virtual_keys_get_a_folder_of_the_service_s_own(tmp_path: Path, player: Player) -> None:
    files = render(player, tmp_path, "arriero", hx_litellm_proxy_virtual_keys=True)
    settings = unit(files / "litellm.service")
    assert settings["StateDirectory"] == ["arriero"]  # systemd tells it by $STATE_DIRECTORY
    assert settings["StateDirectoryMode"] == ["0700"]
    assert settings["ProtectSystem"] == ["strict"]


def test_without_them_nothing_can_be_written(files: Path) -> None:
    assert not {"StateDirectory", "ReadWritePaths"} & set(unit(files / "litellm.service"))


def test_litellm_has_no_use_for_the_folder(tmp_path: Path, player: Player) -> None:
    files = render(player, tmp_path, "litellm", hx_litellm_proxy_virtual_keys=True)
    assert "StateDirectory" not in unit(files / "litellm.service")


def systemd_analyze(*words: str) -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not here (apt install systemd)")
    done = subprocess.run(
        [program, *words], capture_output=True, text=True, check=False, timeout=30
    )
    return done.stdout + done.stderr


def test_the_exposure_is_low(files: Path) -> None:
    said = systemd_analyze(
        "security", "--offline=true", "--no-pager", str(files / "litellm.service")
    )
    found = re.search(r"exposure level for \S+ ([0-9.]+)", said)
    assert found, said
    assert float(found[1]) <= EXPOSURE_MAX


def test_systemd_understands_every_line(rendered: dict[str, Path]) -> None:
    units = [rendered["arriero"] / "litellm.service", rendered["arriero"] / "litellm.socket"]
    other = [rendered["litellm"] / "litellm.service", rendered["litellm"] / "litellm.socket"]
    for paths in (units, other):
        said = systemd_analyze("verify", "--recursive-errors=no", *map(str, paths))
        lines = [line for line in said.splitlines() if "litellm" in line]
        # The programs are on hosts; the engine's name is for the role, and X- is for such.
        others = [line for line in lines if not re.search(r"is not executable|'X-Engine'", line)]
        assert others == []


def test_the_engines_share_one_socket(rendered: dict[str, Path]) -> None:
    """It is systemd's, and the same file, so that it listens on while one follows the other."""
    texts = {(rendered[engine] / "litellm.socket").read_text() for engine in ENGINES}
    assert len(texts) == 1
    for engine in ENGINES:
        service = unit(rendered[engine] / "litellm.service")
        assert service["Requires"] == service["After"][:1] == ["litellm.socket"]


def test_arriero_is_ready_watched_and_its_socket_systemd_s(rendered: dict[str, Path]) -> None:
    service = unit(rendered["arriero"] / "litellm.service")
    assert service["Type"] == ["notify"]
    assert service["NotifyAccess"] == ["main"]
    assert int(service["WatchdogSec"][0]) > 0
    assert int(service["FileDescriptorStoreMax"][0]) > 0
    socket = unit(rendered["arriero"] / "litellm.socket")
    assert socket["ListenStream"] == ["0.0.0.0:4000"]


def test_a_stop_leaves_time_to_drain(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drain_s = loaded(files, monkeypatch).config.server.drain_timeout_s
    assert int(unit(files / "litellm.service")["TimeoutStopSec"][0]) > drain_s


def test_only_one_of_them_can_run(rendered: dict[str, Path]) -> None:
    """Both are litellm.service."""
    assert unit(rendered["arriero"] / "litellm.service")["Alias"] == ["arriero.service"]
    engines = [unit(rendered[engine] / "litellm.service")["X-Engine"] for engine in ENGINES]
    assert engines == [["arriero"], ["litellm"]]


# -- the role's own papers


def options() -> Iterator[tuple[str, object]]:
    specs = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())
    yield from specs["argument_specs"]["main"]["options"].items()


def test_every_default_is_in_the_argument_specs() -> None:
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    own = {name: spec for name, spec in options() if name.startswith("hx_litellm_proxy_")}
    assert set(own) == set(defaults)
    for name, value in defaults.items():
        spec = own[name]
        assert isinstance(spec, dict)
        if "{{" not in str(value):
            assert spec["default"] == value, name


def test_group_vars_hold_what_the_role_requires() -> None:
    required = {name for name, spec in options() if isinstance(spec, dict) and spec.get("required")}
    assert required <= set(GROUP_VARS)
