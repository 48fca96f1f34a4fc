"""A real Active Directory: samba as the domain controller, realmd and sssd on a member.

The controller then serves DNS itself, in the place of dnsmasq, as it does in the specification.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab.ca import Pair, issue
from lab.files import mask, put
from lab.hosts import DC, DOMAIN, Host
from lab.rootfs import Layers
from lab.shell import Shell
from lab.ssh import Ssh

REALM = DOMAIN.upper()
SHORT_NAME = "DEVTEST"
ADMINISTRATOR = "Administrator"
USER = "agent0"
GROUP = "hx-linux-admins"
TLS = "/var/lib/samba/private/tls"
REVERSE_ZONE = "100.51.198.in-addr.arpa"
# Samba as a file server, and winbind on its own, are other services of the same packages.
NOT_WANTED = ("smbd.service", "nmbd.service", "winbind.service")
REALMD = f"""\
[active-directory]
default-client = sssd

[service]
automatic-install = no

[{DOMAIN}]
fully-qualified-names = no
"""


@dataclass(frozen=True)
class Passwords:
    """Passwords of this run's accounts."""

    administrator: str
    user: str


def lay_controller(
    shell: Shell, layers: Layers, root: Path, authority: Pair, passwords: Passwords
) -> None:
    """Provision the domain in the controller's root: the directory, the user and the group."""
    options = f"--realm={REALM} --domain={SHORT_NAME} --server-role=dc --use-rfc2307"
    options += f" --dns-backend=SAMBA_INTERNAL --host-ip={DC.address} --host-name={DC.name}"
    options += " --option='interfaces=lo host0' --option='bind interfaces only=yes'"
    options += f" --option='tls keyfile={TLS}/key.pem' --option='tls certfile={TLS}/cert.pem'"
    options += f" --option='tls cafile={TLS}/ca.pem' --option='dns forwarder='"
    script = (
        "rm -f /etc/samba/smb.conf"
        f" && samba-tool domain provision {options} --adminpass={passwords.administrator}"
        f" && samba-tool user create {USER} {passwords.user}"
        f" && samba-tool group add {GROUP} && samba-tool group addmembers {GROUP} {USER}"
        " && cp /var/lib/samba/private/krb5.conf /etc/krb5.conf"
        " && systemctl unmask -q samba-ad-dc && systemctl enable -q samba-ad-dc"
    )
    layers.run_in(root, "/bin/bash", "-euc", script)
    pair = issue(shell, authority, authority.key.parent, [DC.fqdn, DC.name])
    put(root, f"{TLS}/cert.pem", pair.certificate.read_text(encoding="ascii"))
    put(root, f"{TLS}/key.pem", pair.key.read_text(encoding="ascii"), 0o600)
    put(root, f"{TLS}/ca.pem", authority.certificate.read_text(encoding="ascii"))
    mask_services(root)


def mask_services(root: Path) -> None:
    """Keep the services that nobody asked for from starting."""
    mask(root, *NOT_WANTED)


def add_records(ssh: Ssh, hosts: Iterable[Host], passwords: Passwords) -> None:
    """Add A and PTR records for the hosts to the controller's DNS, as an administrator would."""
    who = f"-U {ADMINISTRATOR}%{passwords.administrator}"
    commands = [f"samba-tool dns zonecreate {DC.fqdn} {REVERSE_ZONE} {who}"]
    for host in hosts:
        number = host.address.rpartition(".")[2]
        if host is not DC:
            commands.append(
                f"samba-tool dns add {DC.fqdn} {DOMAIN} {host.name} A {host.address} {who}"
            )
        commands.append(
            f"samba-tool dns add {DC.fqdn} {REVERSE_ZONE} {number} PTR {host.fqdn} {who}"
        )
    ssh.run(DC, " && ".join(commands), timeout_s=180)


def lay_member(root: Path) -> None:
    """Lay realmd's settings into a member's root."""
    put(root, "/etc/realmd.conf", REALMD)
    mask_services(root)
    mask(root, "samba-ad-dc.service")


def join(ssh: Ssh, host: Host, passwords: Passwords) -> None:
    """Join a host to the domain."""
    command = f"realm join --verbose --install=/ --user={ADMINISTRATOR} {DOMAIN}"
    ssh.run(host, command, stdin=f"{passwords.administrator}\n", timeout_s=180)
    # realmd wrote sssd's configuration; told not to touch packages, it does not start sssd either.
    ssh.run(host, "systemctl restart sssd")
    ssh.run(host, f"until id {USER} >/dev/null 2>&1; do sleep 0.2; done", timeout_s=60)
