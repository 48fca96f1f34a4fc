"""The control node: this machine, with Ansible from the locks, an inventory and a vault."""

import hashlib
import re
import secrets
import ssl
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from lab import paths
from lab.hosts import API, CONTROL_ADDRESS, DC, DOMAIN, PREFIX_BITS, WEBUI, Host
from lab.problems import LabProblem, expect
from lab.shell import Done
from lab.ssh import USER
from lab.stage import Stage
from lab.webui import ADMIN

RECAP = re.compile(
    r"^(?P<host>\S+)\s+: ok=(?P<ok>\d+)\s+changed=(?P<changed>\d+)"
    r"\s+unreachable=(?P<unreachable>\d+)\s+failed=(?P<failed>\d+)",
    re.MULTILINE,
)
PLAY_TIMEOUT_S = 900.0
CANARY_WATCH_S = 15
ARRIERO = str(Path(sys.executable).with_name("arriero"))


@dataclass(frozen=True)
class Recap:
    """What Ansible counted for one host."""

    ok: int
    changed: int
    unreachable: int
    failed: int


def parse_recap(output: str) -> dict[str, Recap]:
    """Return the play recap at the end of a run, by host.

    Raises:
        LabProblem: There is none, so Ansible did not even begin.
    """
    _, found, text = output.rpartition("PLAY RECAP")
    rows = {
        match["host"]: Recap(
            *(int(match[key]) for key in ("ok", "changed", "unreachable", "failed"))
        )
        for match in RECAP.finditer(text)
    }
    if not found or not rows:
        raise LabProblem(f"Ansible gave no recap:\n{output[-2000:]}")
    return rows


class Control:
    """Runs the playbooks of the deployment against the hosts of a stage."""

    def __init__(self, stage: Stage, evidence: Path, home: Path | None = None) -> None:
        self.stage = stage
        self.evidence = evidence
        home = home or stage.folder
        self.inventory = home / "inventory" / "lab.ini"
        self.names = home / "inventory" / "hosts"
        self.password_file = home / "keys" / "vault-password"
        self.master_key_file = home / "keys" / "master-key"

    @property
    def wheels(self) -> Path:
        """The lab's own wheelhouse."""
        return paths.cache() / "wheelhouse"

    @property
    def master_key(self) -> str:
        """The key of this lab's gateway."""
        return self.master_key_file.read_text(encoding="utf-8")

    def prepare(self) -> None:
        """Write the inventory, its variables and an encrypted vault with a key of this run."""
        self.password_file.touch(mode=0o600)
        self.password_file.write_text(secrets.token_hex(16), encoding="utf-8")
        folder = self.inventory.parent / "group_vars"
        copy_links(paths.ANSIBLE / "group_vars", folder)
        self.inventory.write_text(inventory_of(self.stage.hosts), encoding="utf-8")
        self.names.write_text(names_of(self.stage.hosts), encoding="utf-8")
        self.write_variables()
        self.write_vault()

    def write_vault(self) -> None:
        """Make a master key, and write the vault with it, encrypted; the former one is gone."""
        self.master_key_file.touch(mode=0o600)
        self.master_key_file.write_text(f"sk-{secrets.token_hex(24)}", encoding="utf-8")
        self.stage.shell.transcript.hide(self.master_key)
        vault = self.inventory.parent / "group_vars" / "all" / "vault.yml"
        vault.write_text(yaml.safe_dump(self._secrets()), encoding="utf-8")
        self.tool("ansible-vault", "encrypt", str(vault))

    def _secrets(self) -> dict[str, str]:
        values = {"litellm_master_key": self.master_key}
        password = self.stage.ssh.folder / "webui-password"
        if password.exists():
            values["openwebui_admin_email"] = ADMIN
            values["openwebui_admin_password"] = password.read_text(encoding="utf-8")
            self.stage.shell.transcript.hide(values["openwebui_admin_password"])
        return values

    def write_variables(self, **more: object) -> None:
        """Write the variables anew, with further ones for what follows."""
        text = yaml.safe_dump(self.variables() | more)
        # Ansible reads a folder of variables in the order of names, and the last one counts; but
        # any group's come before those of `all`, so that every group gets them.
        for folder in (self.inventory.parent / "group_vars").iterdir():
            (folder / "zz-lab.yml").write_text(text, encoding="utf-8")

    def variables(self) -> dict[str, object]:
        """Return what the lab sets otherwise than the deployment's own group variables."""
        options = " ".join(self.stage.ssh.options)
        sockets = self.stage.folder / "cp"
        shared = f"-o ControlMaster=auto -o ControlPersist=60s -o ControlPath={sockets}/%C"
        sockets.mkdir(exist_ok=True)
        values: dict[str, object] = {
            "ansible_user": USER,
            "ansible_ssh_common_args": options,
            "ansible_ssh_args": shared,
            "evidence_dir": str(self.evidence),
            "gateway_wheelhouse": str(self.wheels),
            "hx_acceptance_command": ARRIERO,
        }
        authority = self.stage.ssh.folder / "hx-root-ca.crt"
        domain = self.stage.scenario.domain
        values |= preflight_variables(authority, self.evidence, domain=domain)
        if WEBUI in self.stage.hosts:
            # Its direct connection stays as a fallback, so it may reach the model hosts.
            values["hx_ollama_backend_sources"] = [API.fqdn, WEBUI.fqdn]
            values["hx_webui_canary_command"] = ARRIERO
            values["hx_webui_canary_watch_s"] = CANARY_WATCH_S
            # It holds keys, so it is no evidence; and the next run on a kept stage needs it.
            values["hx_webui_canary_snapshot"] = str(self.stage.folder / "webui.json")
        if self.stage.kind.name == "model":
            values["litellm_models"] = [
                {"name": "smollm2", "provider": "ollama", "model": self.stage.kind.models[0]}
            ]
        return values

    def tool(self, name: str, *arguments: str, check: bool = True) -> Done:
        """Run one of Ansible's programs in the folder of the deployment."""
        argv: list[str | Path] = [Path(sys.executable).with_name(name), *arguments]
        return self.named(argv, check=check, timeout_s=PLAY_TIMEOUT_S)

    def named(self, argv: Sequence[str | Path], *, timeout_s: float, check: bool = True) -> Done:
        """Run a program that finds the hosts by their names, as a control node of theirs would.

        Only this program sees another /etc/hosts: it gets a mount namespace of its own.
        """
        script = 'mount --bind "$1" /etc/hosts; shift; exec "$@"'
        enter: list[str | Path] = [
            "unshare",
            "--mount",
            "--",
            "/bin/sh",
            "-ec",
            script,
            "named",
            self.names,
        ]
        return self.stage.shell.run(
            [*enter, *argv],
            folder=paths.ANSIBLE,
            timeout_s=timeout_s,
            check=check,
            env={
                "HX_VAULT_PASSWORD_FILE": str(self.password_file),
                "ANSIBLE_NOCOLOR": "1",
                "PYTHONDEVMODE": "",
            },
        )

    def play(self, name: str, *arguments: str, check: bool = True) -> Done:
        """Run a playbook; with `check`, no host may be unreachable or have failed."""
        inventory = ("-i", str(self.inventory))
        done = self.tool(
            "ansible-playbook", *inventory, f"playbooks/{name}.yml", *arguments, check=check
        )
        if check:
            for host, recap in parse_recap(done.output).items():
                expect(recap.failed + recap.unreachable == 0, f"{name}: {host} failed")
        return done


def netplan(address: str) -> dict[str, object]:
    """Return the netplan configuration of a host with this address."""
    ethernet = {
        "dhcp4": False,
        "dhcp6": False,
        "link-local": [],
        "accept-ra": False,
        "addresses": [f"{address}/{PREFIX_BITS}"],
        "nameservers": {"addresses": [DC.address], "search": [DOMAIN]},
    }
    ethernets = {"host0": ethernet}
    return {"network": {"version": 2, "renderer": "networkd", "ethernets": ethernets}}


def copy_links(source: Path, target: Path) -> None:
    """Make the same folders of group variables, with links to the files; secrets stay behind."""
    for file in source.rglob("*.yml"):
        link = target / file.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        if file.name != "vault.yml":
            link.symlink_to(file)


def preflight_variables(authority: Path, evidence: Path, *, domain: bool) -> dict[str, object]:
    """Return what the preflight must find, and the netplan file that it enforces."""
    pem = authority.read_text(encoding="ascii")
    return {
        "hx_preflight_fqdn": "{{ host_fqdn }}",
        "hx_preflight_address": "{{ ansible_host }}",
        "hx_preflight_dns_server": DC.address,
        "hx_preflight_sso": domain,
        "hx_preflight_ca_sha256": hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest(),
        "hx_preflight_tls_services": [f"{DC.fqdn}:443"],
        "hx_preflight_netplan_file": "/etc/netplan/50-hx-static.yaml",
        "hx_preflight_netplan_config": netplan(API.address),
        "hx_preflight_evidence": str(evidence / "api-preflight"),
    }


def changed(done: Done) -> int:
    """Return how many tasks changed something, over all hosts."""
    return sum(recap.changed for recap in parse_recap(done.output).values())


def inventory_of(hosts: tuple[Host, ...]) -> str:
    """Return the inventory, with the groups of the deployment's own and addresses beside names."""
    groups: dict[str, list[Host]] = {}
    for host in hosts:
        groups.setdefault(host.group, []).append(host)
    lines = [f"# The lab's hosts, seen from {CONTROL_ADDRESS}; {DC.name} knows their names."]
    for group, members in groups.items():
        lines += ["", f"[{group}]"]
        lines += [f"{host.name} ansible_host={host.address}" for host in members]
    return "\n".join(lines) + "\n"


def names_of(hosts: Iterable[Host]) -> str:
    """Return this machine's /etc/hosts with the lab's hosts added."""
    lines = [f"{host.address} {host.fqdn} {host.name}" for host in hosts]
    return "\n".join([Path("/etc/hosts").read_text(encoding="utf-8").rstrip(), *lines]) + "\n"


LIMIT = ("--limit", API.name)
