"""The stage: all hosts of a run, made and booted, and the ways to reach them."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from lab import ca, common, dns, domain, ollama, paths, tls, webui
from lab.hosts import API, DC, FULL, WEBUI, Host
from lab.journal import Journal
from lab.machine import Machine, booted, wait_until_up
from lab.network import bridge
from lab.pylayer import venv_layer
from lab.rootfs import Layers, Overlay, overlay
from lab.scenario import Scenario
from lab.shell import Shell
from lab.ssh import Ssh


@dataclass(frozen=True)
class Stage:
    """A lab that stands: where its keys are, how to run commands, which hosts it has."""

    shell: Shell
    ssh: Ssh
    scenario: Scenario
    folder: Path

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The hosts that were booted."""
        return self.scenario.hosts

    @property
    def kind(self) -> ollama.Kind:
        """What serves the models."""
        return self.scenario.kind


class Builder:
    """Makes the stage, piece by piece, each with its undoing."""

    def __init__(self, shell: Shell, journal: Journal, scenario: Scenario) -> None:
        self._shell = shell
        self._journal = journal
        self._layers = Layers(shell, journal)
        self._folder = paths.run_folder()
        self._scenario = scenario
        self._passwords = domain.Passwords(f"Aa1-{token_hex(12)}", f"Aa1-{token_hex(12)}")
        for password in (self._passwords.administrator, self._passwords.user):
            shell.transcript.hide(password)

    @contextmanager
    def stage(self) -> Iterator[Stage]:
        """Make everything, wait until all hosts are up, and remove it at the end."""
        with ExitStack() as stack:
            base = self._base()
            stack.enter_context(self._journal.keep("folder", path=str(self._folder)))
            shutil.rmtree(self._folder, ignore_errors=True)
            keys = self._folder / "keys"
            keys.mkdir(parents=True, mode=0o700)
            name = stack.enter_context(bridge(self._shell, self._journal))
            authority = ca.make_root(self._shell, keys)
            ssh = Ssh(self._shell, keys)
            shared = self._folder / "common"
            with self._layers.on_top([base], shared) as root:
                common.prepare(self._layers, root, authority, ssh.make_client_key())
            machines = []
            for host in self._scenario.hosts:
                layers = [base, shared, *self._own_layers(host, base)]
                folder = self._folder / "hosts" / host.name
                parts = Overlay(layers, folder / "upper", folder)
                root = stack.enter_context(overlay(self._shell, self._journal, parts))
                self._furnish(host, root, ssh, authority)
                machines.append(stack.enter_context(booted(self._journal, host, root, name)))
            stack.callback(self._journal.ask_all_to_end)
            self._wait(ssh, machines)
            if self._scenario.domain:
                domain.add_records(ssh, self._scenario.hosts, self._passwords)
                domain.join(ssh, API, self._passwords)
            yield Stage(self._shell, ssh, self._scenario, self._folder)

    def _base(self) -> Path:
        return self._layers.base_with_domain() if self._scenario.domain else self._layers.base()

    def _own_layers(self, host: Host, base: Path) -> list[Path]:
        if host.group == "llm":
            return [ollama.layer(self._shell, self._layers, base, self._scenario.kind)]
        if host is WEBUI:
            return [venv_layer(self._shell, self._layers, base, webui.VENV, webui.LOCKS)]
        return []

    def _furnish(self, host: Host, root: Path, ssh: Ssh, authority: ca.Pair) -> None:
        common.personalise(root, host)
        ssh.make_host_key(host, root)
        if self._scenario.domain and host is DC:
            domain.lay_controller(self._shell, self._layers, root, authority, self._passwords)
        elif self._scenario.domain:
            domain.lay_member(root)
        elif host is DC:
            dns.lay(root, FULL)
        if host is DC:
            tls.lay(self._shell, root, authority, self._folder / "keys")
        if host.group == "llm":
            ollama.lay(root, self._scenario.kind)
        if host is WEBUI:
            webui.lay(root, self._folder / "keys")

    def _wait(self, ssh: Ssh, machines: list[Machine]) -> None:
        for machine in machines:
            wait_until_up(self._shell, ssh, machine)
