"""SSH from the control node: one client key, and host keys that are known before a host boots."""

import shlex
from pathlib import Path

from lab.hosts import Host
from lab.shell import Done, Shell

# Root may not log in (the preflight enforces it), so the control node comes as a user with sudo.
USER = "deploy"


class Ssh:
    """The keys of a run, in its folder, and commands over SSH."""

    def __init__(self, shell: Shell, folder: Path) -> None:
        self._shell = shell
        self.folder = folder
        self.key = folder / "id_ed25519"
        self.known_hosts = folder / "known_hosts"

    @property
    def options(self) -> list[str]:
        """The options that every ssh of the lab has, Ansible's as well."""
        return [
            *("-F", "none", "-i", str(self.key), "-o", "IdentitiesOnly=yes"),
            *("-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "StrictHostKeyChecking=yes"),
            *("-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", "LogLevel=ERROR"),
        ]

    def make_client_key(self) -> str:
        """Make the control node's key and return its public half."""
        return self._make(self.key)

    def make_host_key(self, host: Host, root: Path) -> None:
        """Give a host its key, and know it by its address and its names."""
        key = root / "etc/ssh/ssh_host_ed25519_key"
        key.parent.mkdir(parents=True, exist_ok=True)
        public = self._make(key)
        with self.known_hosts.open("a", encoding="utf-8") as file:
            file.write(f"{host.address},{host.fqdn},{host.name} {public}")

    def run(
        self,
        host: Host,
        command: str,
        *,
        timeout_s: float = 60.0,
        check: bool = True,
        root: bool = True,
        stdin: str | None = None,
    ) -> Done:
        """Run a shell command on a host, as root unless told otherwise."""
        words = f"sudo -n bash -c {shlex.quote(command)}" if root else command
        argv = ["ssh", *self.options, f"{USER}@{host.address}", words]
        return self._shell.run(argv, timeout_s=timeout_s, check=check, stdin=stdin)

    def _make(self, key: Path) -> str:
        self._shell.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", key])
        return key.with_name(f"{key.name}.pub").read_text(encoding="utf-8")
