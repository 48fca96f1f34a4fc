"""The stage: all hosts of a run, made and booted, and the ways to reach them."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import ca, common, dns, ollama, paths, tls, webui
from lab.hosts import DC, FULL, SHORT, WEBUI, Host
from lab.journal import Journal
from lab.machine import Machine, booted, wait_until_up
from lab.network import bridge
from lab.pylayer import venv_layer
from lab.rootfs import Layers, Overlay, overlay
from lab.shell import Shell
from lab.ssh import Ssh


@dataclass(frozen=True)
class Stage:
    """A lab that stands: where its keys are, how to run commands, which hosts it has."""

    shell: Shell
    ssh: Ssh
    hosts: tuple[Host, ...]
    kind: ollama.Kind
    folder: Path


class Builder:
    """Makes the stage, piece by piece, each with its undoing."""

    def __init__(self, shell: Shell, journal: Journal, *, short: bool) -> None:
        self._shell = shell
        self._journal = journal
        self._layers = Layers(shell, journal)
        self._folder = paths.run_folder()
        self._hosts = SHORT if short else FULL
        self._kind = ollama.SIM if short else ollama.REAL

    @contextmanager
    def stage(self) -> Iterator[Stage]:
        """Make everything, wait until all hosts are up, and remove it at the end."""
        with ExitStack() as stack:
            base = self._layers.base()
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
            for host in self._hosts:
                layers = [base, shared, *self._own_layers(host, base)]
                folder = self._folder / "hosts" / host.name
                parts = Overlay(layers, folder / "upper", folder)
                root = stack.enter_context(overlay(self._shell, self._journal, parts))
                self._furnish(host, root, ssh, authority)
                machines.append(stack.enter_context(booted(self._journal, host, root, name)))
            stack.callback(self._journal.ask_all_to_end)
            self._wait(ssh, machines)
            yield Stage(self._shell, ssh, self._hosts, self._kind, self._folder)

    def _own_layers(self, host: Host, base: Path) -> list[Path]:
        if host.group == "llm":
            return [ollama.layer(self._shell, self._layers, base, self._kind)]
        if host is WEBUI:
            return [venv_layer(self._shell, self._layers, base, webui.VENV, webui.LOCKS)]
        return []

    def _furnish(self, host: Host, root: Path, ssh: Ssh, authority: ca.Pair) -> None:
        common.personalise(root, host)
        ssh.make_host_key(host, root)
        if host is DC:
            dns.lay(root, FULL)
            tls.lay(self._shell, root, authority, self._folder / "keys")
        if host.group == "llm":
            ollama.lay(root, self._kind)
        if host is WEBUI:
            webui.lay(root, self._folder / "keys")

    def _wait(self, ssh: Ssh, machines: list[Machine]) -> None:
        for machine in machines:
            wait_until_up(self._shell, ssh, machine)
