"""Renders what the gateway's role writes to a host, by Ansible itself, from the real group_vars."""

from pathlib import Path

from tests.deploy.playing import ANSIBLE, Player

ROLE = ANSIBLE / "roles" / "hx_litellm_proxy"
TEMPLATES = ("litellm.config.yaml", "litellm.env", "litellm.service", "litellm.socket")
PLAYBOOK = f"""\
- hosts: litellm
  connection: local
  gather_facts: false
  vars_files: ["{ROLE}/defaults/main.yml", "{ROLE}/vars/main.yml"]
  tasks:
    - ansible.builtin.template:
        src: "{ROLE}/templates/{{{{ item }}}}.j2"
        dest: "{{{{ rendered }}}}/{{{{ item }}}}"
        mode: "0600"
      loop: {list(TEMPLATES)}
"""


def render(player: Player, folder: Path, engine: str, **more: object) -> Path:
    """Return a folder with the files of one engine."""
    target = folder / engine
    target.mkdir()
    playbook = folder / f"{engine}.yml"
    playbook.write_text(PLAYBOOK)
    played = player.play(
        str(playbook),
        inventory="inventories/dev.ini",
        gateway_engine=engine,
        rendered=str(target),
        ansible_host="localhost",
        **more,
    )
    assert played.rc == 0, played.output
    return target


def unit(path: Path) -> dict[str, list[str]]:
    """Return the settings of a unit file; each may stand there more than once."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        name, is_setting, value = line.partition("=")
        if is_setting and not line.startswith(("#", ";")):
            found.setdefault(name, []).append(value)
    return found
