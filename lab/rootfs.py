"""Root file systems, made once and kept: layers that hosts lay their own overlay upon.

A layer's folder is named by a digest of everything that went into it, so another list of packages
makes another layer, and a used machine finds what it made before. It is made under another name and
renamed at the end: a layer that is there is whole.
"""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab import paths
from lab.cgroups import own_group
from lab.hosts import PREFIX
from lab.journal import Journal
from lab.shell import Done, Shell

SUITE = "bookworm"
# What a Debian server of the specification has before anybody deploys to it: netplan, a resolver,
# SSH and sudo, Python with venv and pip. dnsmasq-base is the program without a service.
BASE_PACKAGES = (
    "bind9-dnsutils",
    "ca-certificates",
    "curl",
    "dbus",
    "dnsmasq-base",
    "iproute2",
    "iputils-ping",
    "jq",
    "libnss-resolve",
    "netplan.io",
    "nftables",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "python3-pip",
    "python3-venv",
    "sudo",
    "systemd",
    "systemd-resolved",
    "systemd-sysv",
    "udev",
)
# For the run with a domain: an Active Directory controller and what joins one.
DOMAIN_PACKAGES = (
    "acl",
    "adcli",
    "attr",
    "krb5-user",
    "libnss-sss",
    "libpam-sss",
    "libsss-sudo",
    "realmd",
    "samba",
    "samba-ad-provision",
    "samba-dsdb-modules",
    "samba-vfs-modules",
    "sssd-ad",
    "sssd-tools",
    "winbind",
)
BASE_TIMEOUT_S = 900.0


def digest(*parts: str) -> str:
    """Return a short name for what these texts say."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


class Layers:
    """The kept layers, made when they are first asked for."""

    def __init__(self, shell: Shell, journal: Journal) -> None:
        self._shell = shell
        self._journal = journal
        self._folder = paths.cache() / "layers"

    def base(self) -> Path:
        """Return a Debian with `BASE_PACKAGES`."""
        return self._debian("base", BASE_PACKAGES)

    def base_with_domain(self) -> Path:
        """Return one that has `DOMAIN_PACKAGES` as well."""
        return self._debian("domain", (*BASE_PACKAGES, *DOMAIN_PACKAGES))

    def get(self, name: str, key: str, make: Callable[[Path], None]) -> Path:
        """Return the layer of this name and key; `make` fills an empty folder with it."""
        layer = self._folder / f"{name}-{key}"
        if layer.is_dir():
            return layer
        self._folder.mkdir(parents=True, exist_ok=True)
        fresh = self._folder / f".{name}-{key}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        with self._journal.keep("folder", path=str(fresh)):
            make(fresh)
            fresh.rename(layer)
        for old in self._folder.glob(f"{name}-*"):
            if old != layer:
                shutil.rmtree(old)
        return layer

    @contextmanager
    def on_top(self, lower: Sequence[Path], upper: Path) -> Iterator[Path]:
        """Give a root made of these layers, whose changes go to `upper`."""
        scratch = self._folder / f".{upper.name.strip('.')}.mnt"
        with self._journal.keep("folder", path=str(scratch)):
            parts = Overlay(lower, upper, scratch)
            with overlay(self._shell, self._journal, parts) as root:
                yield root

    def run_in(self, root: Path, *argv: str, binds: Sequence[str] = ()) -> Done:
        """Run one command inside a root, with these folders (`outside:inside`) to read."""
        command: list[str | Path] = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit"]
        command += ["--resolv-conf=off", "--timezone=off", "--pipe", "-D", root]
        command += [f"--bind-ro={bind}" for bind in binds]
        with own_group(self._journal, f"{PREFIX}-build") as enter:
            return self._shell.run([*enter, *command, *argv], timeout_s=600)

    def _debian(self, name: str, packages: Sequence[str]) -> Path:
        def make(folder: Path) -> None:
            command: list[str | Path] = ["mmdebstrap", "--variant=minbase", "--mode=root"]
            command += ["--dpkgopt=force-unsafe-io", f"--include={','.join(packages)}"]
            command += [f"--aptopt={option}" for option in self._apt_options()]
            command += [SUITE, folder, *machine_sources()]
            self._shell.run(command, timeout_s=BASE_TIMEOUT_S)
            # Keys that all hosts would share, and a name that none of them has.
            for key in (folder / "etc/ssh").glob("ssh_host_*"):
                key.unlink()
            (folder / "etc/hostname").unlink(missing_ok=True)
            (folder / "etc/machine-id").write_text("", encoding="utf-8")

        return self.get(name, digest(SUITE, *packages), make)

    def _apt_options(self) -> list[str]:
        """Return how this machine's apt reaches its archive: proxies, certificates."""
        dump = self._shell.run(["apt-config", "dump"]).output
        return [line for line in dump.splitlines() if re.match(r"Acquire::(https?|Check-)", line)]


def machine_sources() -> list[Path]:
    """Return this machine's list of Debian mirrors, if it has one for the suite."""
    folder = Path("/etc/apt")
    for source in (folder / "sources.list.d/debian.sources", folder / "sources.list"):
        if source.is_file() and re.search(rf"\b{SUITE}\b", source.read_text(encoding="utf-8")):
            return [source]
    return []


class Overlay:
    """Where an overlay's parts are: layers from low to high, what is written, and the mount."""

    def __init__(self, lower: Sequence[Path], upper: Path, folder: Path) -> None:
        self.lower = lower
        self.upper = upper
        self.work = folder / "work"
        self.root = folder / "root"

    @property
    def options(self) -> str:
        """The mount's options; the highest of the lower layers stands first."""
        lower = ":".join(str(path) for path in reversed(self.lower))
        return f"lowerdir={lower},upperdir={self.upper},workdir={self.work}"


@contextmanager
def overlay(shell: Shell, journal: Journal, parts: Overlay) -> Iterator[Path]:
    """Mount an overlay, give its root, and unmount it at the end."""
    for folder in (parts.upper, parts.work, parts.root):
        folder.mkdir(parents=True, exist_ok=True)
    with journal.keep("mount", path=str(parts.root)):
        shell.run(["mount", "-t", "overlay", "overlay", "-o", parts.options, parts.root])
        yield parts.root
