"""The faults of the specification's Ansible and unit, each held off by a test under its number.

docs/faults.md has the table of them, with the steps of the lab for what only booted hosts show.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.deploy.playing import ANSIBLE, Player, missing
from tests.deploy.rendering import ROLE, render, unit

REQUIREMENTS = ANSIBLE.parents[1] / "requirements"
TASKS = ROLE / "tasks"
KEYWORDS = {
    "name", "when", "loop", "loop_control", "register", "vars", "tags", "notify", "become",
    "delegate_to", "changed_when", "failed_when", "check_mode", "no_log", "diff", "environment",
    "until", "retries", "delay", "block", "always", "rescue",
}  # fmt: skip
Task = dict[str, Any]


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text()))


def tasks_in(found: Any) -> Iterator[Task]:
    """Give every task of a list, those in blocks too."""
    for task in found or []:
        yield task
        for part in ("block", "always", "rescue"):
            yield from tasks_in(task.get(part))


def role_tasks() -> dict[str, list[Task]]:
    return {path.name: list(tasks_in(documents(path)[0])) for path in TASKS.glob("*.yml")}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    why = missing()
    if why:
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("seed")
    control = folder / "control"
    control.mkdir()
    player = Player(control)
    return {engine: render(player, folder, engine) for engine in ("arriero", "litellm")}


def test_fault_01_the_inventory_has_hosts_in_every_group() -> None:
    groups: dict[str, list[str]] = {}
    name = ""
    for line in (ANSIBLE / "inventories/dev.ini").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        head = re.fullmatch(r"\[(\w+)\]", line)
        if head:
            name = head[1]
        else:
            assert re.fullmatch(r"[a-z0-9-]+", line), line
            groups.setdefault(name, []).append(line)
    assert groups["litellm"] == ["hx-api-server"]
    assert groups["llm"] == ["hx-llm01-server", "hx-llm02-server"]
    assert groups["webui"] == ["hx-webui-server"]


def test_fault_01_markdown_in_the_inventory_is_refused(player: Player, tmp_path: Path) -> None:
    pasted = tmp_path / "dev.ini"
    pasted.write_text("[litellm]\n# LiteLLM API Gateway\n\n---\n\n1. [Overview](#1-overview)\n")
    played = player.play("litellm_enforce", "--limit", "hx-api-server", inventory=str(pasted))
    assert played.rc != 0


def test_fault_02_the_short_name_selects_the_host(player: Player) -> None:
    played = player.play(
        "litellm_enforce",
        "--limit",
        "hx-api-server",
        "--list-hosts",
        inventory="inventories/dev.ini",
    )
    assert "hosts (1):\n      hx-api-server" in played.output
    unknown = player.play(
        "litellm_enforce", "--limit", "hx-nowhere", inventory="inventories/dev.ini"
    )
    assert unknown.rc != 0
    assert "hx-nowhere" in unknown.output


def test_the_variables_beside_the_playbooks_count(files: dict[str, Path]) -> None:
    """Ansible reads group_vars beside an inventory or a playbook; the specification's are beside
    neither. That they were rendered at all, from inventories/dev.ini, is the proof."""
    assert (ANSIBLE / "inventories/group_vars").resolve() == ANSIBLE / "group_vars"
    assert (
        "hx-llm01-server.dev-test.hana-x.ai"
        in (files["arriero"] / "litellm.config.yaml").read_text()
    )


def test_fault_03_every_play_on_hosts_asks_for_root() -> None:
    for name in ("litellm_enforce", "upgrade", "rollback"):
        (plays,) = documents(ANSIBLE / f"playbooks/{name}.yml")
        assert all(play["become"] is True for play in plays)


def test_fault_04_the_tags_select_different_tasks(player: Player) -> None:
    listed = {}
    for tags in ("critical", "high", "critical,high"):
        played = player.play(
            "litellm_enforce", "-t", tags, "--list-tasks", inventory="inventories/dev.ini"
        )
        listed[tags] = set(re.findall(r"hx_litellm_proxy : (.*?)\s+TAGS", played.output))
    both = listed["critical"] & listed["high"]
    assert listed["critical"] < listed["critical,high"]
    assert listed["high"] - both
    assert any(name.startswith("Preflight") for name in both)


def test_fault_04_a_dry_run_runs_the_rehearsal() -> None:
    (block,) = documents(TASKS / "rehearse.yml")[0]
    assert block["when"] == "ansible_check_mode"
    assert block["check_mode"] is False
    modules = [module for task in tasks_in(block["block"]) for module in task]
    assert modules.count("ansible.builtin.command") >= 4


def test_fault_05_and_06_every_task_is_one_module_of_one_document() -> None:
    for path in itertools.chain(TASKS.glob("*.yml"), (ROLE / "handlers").glob("*.yml")):
        (found,) = documents(path)
        for task in tasks_in(found):
            modules = set(task) - KEYWORDS
            assert task["name"], path
            assert len(modules) == ("block" not in task), (path, task["name"], modules)


def test_fault_07_every_file_of_tasks_is_used() -> None:
    everything = "\n".join(path.read_text() for path in ROLE.rglob("*.yml"))
    everything += (ANSIBLE / "playbooks/rollback.yml").read_text()
    for name in {path.stem for path in TASKS.glob("*.yml")} - {"main"}:
        named = re.sub(r"^rollback_(version|config)$", "rollback_{{ rollback_to }}", name)
        assert f"{named}.yml" in everything


def test_fault_08_what_the_service_reads_is_followed_by_a_handler() -> None:
    templates = [
        task
        for tasks in role_tasks().values()
        for task in tasks
        if "ansible.builtin.template" in task and task.get("changed_when", True) is not False
    ]
    notified = {task["ansible.builtin.template"]["src"]: task["notify"] for task in templates}
    assert notified == {
        "litellm.config.yaml.j2": "Reload the gateway",
        "litellm.env.j2": "Restart the gateway",
        "litellm.service.j2": "Restart the gateway",
        "litellm.socket.j2": "Renew the socket",
    }
    handlers = {handler["name"] for handler in documents(ROLE / "handlers/main.yml")[0]}
    assert set(notified.values()) <= handlers


def test_fault_09_and_13_nothing_is_in_a_home_directory(files: dict[str, Path]) -> None:
    for folder in files.values():
        service = unit(folder / "litellm.service")
        assert service["ProtectHome"] == ["true"]
        for command in itertools.chain(*(service[key] for key in service if key[:4] == "Exec")):
            assert not re.search(r"(^|\s)/(home|root)/", command)
    (user,) = [t for t in role_tasks()["release.yml"] if "ansible.builtin.user" in t]
    assert user["ansible.builtin.user"]["create_home"] is False


def test_fault_10_packages_are_pinned_by_hash() -> None:
    for name in ("service.txt", "litellm.txt", "ansible.txt"):
        text = (REQUIREMENTS / name).read_text()
        pins = re.split(r"(?m)^(?=[A-Za-z0-9])", text)[1:]
        assert pins
        for pin in pins:
            assert re.match(r"\S+==\S+ ", pin), pin
            assert "--hash=sha256:" in pin
    options = (ROLE / "vars/main.yml").read_text()
    assert "--require-hashes" in options
    assert "--upgrade" not in options


def test_fault_10_the_locked_litellm_is_the_one_of_group_vars_and_vetted() -> None:
    variables = yaml.safe_load((ANSIBLE / "group_vars/all/main.yml").read_text())
    lock = (REQUIREMENTS / "litellm.txt").read_text()
    assert f"\nlitellm=={variables['litellm_version']} \\" in lock
    assert variables["litellm_version"] not in ("1.82.7", "1.82.8")


def test_fault_11_no_package_is_asked_for_by_a_name_that_some_releases_lack() -> None:
    """The role installs none; the preflight names those of the distribution's own Python."""
    for tasks in role_tasks().values():
        assert not any("ansible.builtin.apt" in task for task in tasks)


def test_fault_12_litellm_comes_with_what_its_401_and_metrics_need() -> None:
    lock = (REQUIREMENTS / "litellm.txt").read_text()
    assert re.search(r"(?m)^prisma==", lock)
    assert re.search(r"(?m)^prometheus-client==", lock)


def test_fault_14_the_service_may_read_its_configuration_and_not_write_it() -> None:
    written = {
        task["ansible.builtin.template"]["src"]: task["ansible.builtin.template"]
        for task in role_tasks()["configure.yml"]
        if "ansible.builtin.template" in task
    }
    config = written["litellm.config.yaml.j2"]
    assert (config["owner"], config["mode"]) == ("root", "0640")
    assert config["group"] == "{{ hx_litellm_proxy_user }}"


def test_fault_15_a_start_is_done_when_a_model_is_served(files: dict[str, Path]) -> None:
    for folder in files.values():
        service = unit(folder / "litellm.service")
        assert service["Type"] == ["notify"]
        assert service["Restart"] == ["on-failure"]
        # Five quick failures, with the pauses between them, must fit into the interval.
        pauses_s = int(service["StartLimitBurst"][0]) * int(service["RestartSec"][0])
        assert int(service["StartLimitIntervalSec"][0]) > 2 * pauses_s


def test_fault_16_no_port_is_looked_at_but_aliases_are_waited_for() -> None:
    text = (TASKS / "verify.yml").read_text()
    assert "/v1/models" in text
    assert "until:" in text
    assert "ss -" not in text


def test_fault_17_nothing_is_writable_and_no_capability_is_left(files: dict[str, Path]) -> None:
    for folder in files.values():
        service = unit(folder / "litellm.service")
        assert "ReadWritePaths" not in service
        assert service["ProtectSystem"] == ["strict"]
        assert service["CapabilityBoundingSet"] == [""]
        assert service["SystemCallFilter"][0] == "@system-service"
        for limit in ("MemoryMax", "LimitNOFILE", "TasksMax", "TimeoutStopSec"):
            assert service[limit]


def test_fault_18_the_key_is_a_credential_and_never_shown(files: dict[str, Path]) -> None:
    for folder in files.values():
        service = unit(folder / "litellm.service")
        assert service["LoadCredentialEncrypted"] == ["master_key:/etc/litellm/master_key.cred"]
    for name, tasks in role_tasks().items():
        for task in tasks:
            body = {key: value for key, value in task.items() if key not in ("block", "always")}
            if "litellm_master_key }}" in str(body) or "litellm_master_key |" in str(body):
                assert task.get("no_log") is True, (name, task["name"])


def test_fault_19_litellm_shows_no_documents_to_strangers(files: dict[str, Path]) -> None:
    settings = unit(files["litellm"] / "litellm.env")
    for name in ("NO_DOCS", "NO_REDOC", "NO_OPENAPI", "DISABLE_ADMIN_UI"):
        assert settings[name] == ["True"]


def test_fault_20_and_21_no_key_must_fail_and_the_list_must_be_the_inventorys() -> None:
    tasks = {task["name"]: task for task in role_tasks()["verify.yml"]}
    without = tasks["Verify, ask without a key"]["ansible.builtin.uri"]
    assert without["status_code"] == 401
    assert "headers" not in without
    same = tasks["Verify, see that they are the ones of the inventory"]
    assert "_served | sort ==" in same["ansible.builtin.assert"]["that"]


def test_fault_22_ties_do_not_go_to_the_first_backend() -> None:
    """arriero takes turns, which tests/core/test_routing.py proves; the seed's loop is not used."""
    assert not any("seq 1 10" in path.read_text() for path in ANSIBLE.rglob("*.yml"))
