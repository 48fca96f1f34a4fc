"""What all hosts of a run share: the authority, the deploying user, the resolver, what is masked.

It is a layer between the base and each host's own, so it is made once.
"""

import json
from pathlib import Path

from lab.ca import Pair
from lab.files import mask, put
from lab.hosts import DC, DOMAIN, PREFIX_BITS, Host
from lab.rootfs import Layers
from lab.ssh import USER

MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "console-getty.service",
    "getty.target",
    "ldconfig.service",
    "systemd-journal-catalog-update.service",
    "systemd-update-utmp.service",
)
# A container has no device manager, and its links are there before it starts. `netplan apply` asks
# for their events to be sent again, which a kernel's read-only /sys refuses.
UDEVADM = """\
#!/bin/sh
case $1 in
trigger | settle) [ -w /sys ] || exit 0 ;;
esac
exec /usr/bin/udevadm "$@"
"""
NETPLAN = """\
# The only file of netplan's: a static address, and the domain controller as the only resolver.
network:
  version: 2
  renderer: networkd
  ethernets:
    host0:
      dhcp4: false
      dhcp6: false
      link-local: []
      accept-ra: false
      addresses: [{address}/{bits}]
      nameservers:
        addresses: [{dns}]
        search: [{domain}]
"""


def prepare(layers: Layers, root: Path, authority: Pair, public_key: str) -> None:
    """Fill the layer, seen as a root file system, with what all hosts have."""
    certificate = authority.certificate.read_text(encoding="utf-8")
    put(root, "/usr/local/share/ca-certificates/hx-root-ca.crt", certificate)
    put(root, f"/etc/sudoers.d/10-{USER}", f"{USER} ALL=(ALL) NOPASSWD: ALL\n", 0o440)
    put(root, "/usr/local/bin/udevadm", UDEVADM, 0o755)
    # Debian's pam_env wants it, and says so at each login otherwise.
    put(root, "/etc/default/locale", "LANG=C.UTF-8\n")
    # The users of services that the lab installs are made here, too: a layer that has its own
    # /etc/passwd would hide the one below it.
    services = " && ".join(
        f"useradd --system --home-dir /var/lib/{name} --shell /usr/sbin/nologin {name}"
        for name in ("ollama", "open-webui")
    )
    script = (
        f"{services} && useradd --create-home --shell /bin/bash {USER}"
        " && update-ca-certificates >/dev/null"
        " && systemctl enable -q systemd-networkd systemd-resolved ssh"
        " && systemctl disable -q systemd-networkd-wait-online"
        " && ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf"
        f" && install -d -m 700 -o {USER} -g {USER} ~{USER}/.ssh"
        f" && echo {json.dumps(public_key.strip())} >~{USER}/.ssh/authorized_keys"
        f" && chown -R {USER}:{USER} ~{USER}/.ssh"
    )
    layers.run_in(root, "/bin/bash", "-euc", script)
    mask(root, *MASKED)


def personalise(root: Path, host: Host) -> None:
    """Give a host its name and its address."""
    put(root, "/etc/hostname", f"{host.name}\n")
    put(root, "/etc/hosts", f"127.0.0.1 localhost\n{host.address} {host.fqdn} {host.name}\n")
    text = NETPLAN.format(address=host.address, bits=PREFIX_BITS, dns=DC.address, domain=DOMAIN)
    put(root, "/etc/netplan/50-hx-static.yaml", text, 0o600)
