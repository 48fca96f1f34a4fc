"""The domain controller's name server: dnsmasq, with an address and a name for each host."""

from collections.abc import Iterable
from pathlib import Path

from lab.files import enable, put
from lab.hosts import DC, DOMAIN, Host

UNIT = """\
[Unit]
Description=Names of {domain}
After=network-online.target systemd-networkd.service
Wants=network-online.target

[Service]
ExecStart=/usr/sbin/dnsmasq --keep-in-foreground --conf-file=/etc/dnsmasq-hx.conf
Restart=on-failure
RestartSec=1

[Install]
WantedBy=multi-user.target
"""
CONFIGURATION = """\
port=53
bind-dynamic
listen-address={address}
no-resolv
no-hosts
# Nobody else knows this domain or this network: what is not below does not exist.
local=/{domain}/
bogus-priv
user=nobody
"""


def lay(root: Path, hosts: Iterable[Host]) -> None:
    """Lay the server and the records (A and PTR) into the domain controller's root."""
    text = CONFIGURATION.format(address=DC.address, domain=DOMAIN)
    text += "".join(f"host-record={host.fqdn},{host.address}\n" for host in hosts)
    put(root, "/etc/dnsmasq-hx.conf", text)
    put(root, "/etc/systemd/system/hx-dns.service", UNIT.format(domain=DOMAIN))
    enable(root, "hx-dns.service")
