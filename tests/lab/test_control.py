from pathlib import Path

import pytest
import yaml
from lab.ca import make_root
from lab.control import Control, Recap, changed, copy_links, inventory_of, parse_recap
from lab.hosts import FULL, SHORT
from lab.paths import ANSIBLE
from lab.problems import LabProblem
from lab.scenario import BRIEF, WHOLE, WITH_AD, Scenario
from lab.shell import Done, Shell, Transcript
from lab.ssh import Ssh
from lab.stage import Stage

OUTPUT = """
TASK [one] ***
changed: [hx-api-server]

PLAY RECAP *********************************************************************
hx-api-server              : ok=19   changed=2    unreachable=0    failed=1    skipped=2    rescued=1    ignored=0
hx-llm01-server            : ok=3    changed=5    unreachable=1    failed=0    skipped=0    rescued=0    ignored=0
"""  # noqa: E501 - Ansible's own lines


def test_the_recap_is_read_by_host() -> None:
    rows = parse_recap(OUTPUT)
    assert rows["hx-api-server"] == Recap(ok=19, changed=2, unreachable=0, failed=1)
    assert rows["hx-llm01-server"].unreachable == 1
    assert changed(Done(["x"], 0, OUTPUT, 0.0)) == 7


def test_a_run_without_a_recap_is_a_problem() -> None:
    with pytest.raises(LabProblem, match="no recap"):
        parse_recap("ERROR! the playbook could not be found")


def test_the_inventory_has_the_groups_of_the_deployments_own() -> None:
    def groups(text: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        name = ""
        for line in text.splitlines():
            if line.startswith("["):
                name = line.strip("[]")
                found[name] = set()
            elif line and not line.startswith("#"):
                found[name].add(line.split()[0])
        return found

    ours = groups(inventory_of(FULL))
    theirs = groups((ANSIBLE / "inventories" / "dev.ini").read_text())
    assert {name: ours[name] for name in theirs} == theirs
    assert "ansible_host=198.51.100.5" in inventory_of(SHORT)


def test_secrets_of_the_deployment_are_not_linked(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "all").mkdir(parents=True)
    (source / "all" / "main.yml").write_text("a: 1\n")
    (source / "all" / "vault.yml").write_text("key: real\n")
    copy_links(source, tmp_path / "copy")
    assert [path.name for path in (tmp_path / "copy" / "all").iterdir()] == ["main.yml"]


@pytest.fixture
def control(tmp_path: Path) -> Control:
    return made(tmp_path, BRIEF)


def made(folder: Path, scenario: Scenario) -> Control:
    shell = Shell(Transcript(folder / "transcript.txt"))
    (folder / "keys").mkdir()
    make_root(shell, folder / "keys")
    stage = Stage(shell, Ssh(shell, folder / "keys"), scenario, folder)
    return Control(stage, folder / "evidence")


def test_the_real_model_has_its_own_alias(tmp_path: Path) -> None:
    assert "litellm_models" in made(tmp_path, WHOLE).variables()


def test_the_domain_is_looked_for_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert made(tmp_path / "a", WITH_AD).variables()["hx_preflight_sso"] is True
    assert made(tmp_path / "b", BRIEF).variables()["hx_preflight_sso"] is False


def test_every_group_gets_the_labs_variables(control: Control) -> None:
    copy_links(ANSIBLE / "group_vars", control.inventory.parent / "group_vars")
    control.write_variables(gateway_engine="litellm")
    files = list(control.inventory.parent.rglob("zz-lab.yml"))
    assert len(files) == len(list((ANSIBLE / "group_vars").iterdir()))
    for file in files:
        values = yaml.safe_load(file.read_text())
        assert values["gateway_engine"] == "litellm"
        assert values["hx_preflight_dns_server"] == "198.51.100.2"
        # The last of its folder, as Ansible reads them in order.
        assert max(path.name for path in file.parent.iterdir()) == "zz-lab.yml"


def test_the_password_and_the_key_are_for_their_owner_alone(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain: list[str] = []

    def encrypt(name: str, *arguments: str) -> Done:
        plain.append(Path(arguments[-1]).read_text())
        return Done([name, *arguments], 0, "", 0.0)

    monkeypatch.setattr(control, "tool", encrypt)
    control.prepare()
    assert plain == [f"litellm_master_key: {control.master_key}\n"]
    for path in (control.password_file, control.master_key_file):
        assert path.stat().st_mode & 0o077 == 0
    control.stage.shell.run(["echo", control.master_key])
    assert control.master_key not in (control.stage.folder / "transcript.txt").read_text()
