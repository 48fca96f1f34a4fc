"""What the lab needs of this machine, and how it gets it."""

import os
import shutil
from pathlib import Path

from lab.problems import CannotRun
from lab.shell import Shell

# A command and the Debian package that has it.
COMMANDS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "openssl": "openssl",
    "mount": "mount",
}
BROWSER = {"chromium": "chromium", "chromedriver": "chromium-driver"}
APT_GET = ("apt-get", "-o", "DPkg::Lock::Timeout=300", "-qq")


def require(shell: Shell, *, browser: bool = False) -> None:
    """See that the lab can run here; missing packages are installed if apt is there.

    Raises:
        CannotRun: It cannot, and the message says why.
    """
    if os.geteuid() != 0:
        raise CannotRun("the lab boots machines, which needs root\nhint: sudo ./scripts/lab")
    if not Path("/proc/self/ns/net").exists():
        raise CannotRun("this kernel has no network namespaces")
    if "overlay" not in Path("/proc/filesystems").read_text(encoding="utf-8"):
        raise CannotRun("this kernel has no overlay file system\nhint: modprobe overlay")
    wanted = COMMANDS | (BROWSER if browser else {})
    missing = sorted({package for name, package in wanted.items() if not shutil.which(name)})
    if missing:
        _install(shell, missing)


def _install(shell: Shell, packages: list[str]) -> None:
    if not shutil.which("apt-get"):
        raise CannotRun(f"these programs are missing: {', '.join(packages)}")
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    shell.run([*APT_GET, "update"], timeout_s=300, check=False, env=env)
    done = shell.run(
        [*APT_GET, "install", "--yes", "--no-install-recommends", *packages],
        timeout_s=900,
        check=False,
        env=env,
    )
    if done.code:
        raise CannotRun(f"apt-get could not install {', '.join(packages)}\n{done.output[-800:]}")
