"""A TLS service on the domain controller, whose certificate HX Root CA signed."""

from pathlib import Path

from lab.ca import Pair, issue
from lab.files import enable, put
from lab.hosts import DC
from lab.shell import Shell

UNIT = """\
[Unit]
Description=An internal TLS service for rehearsals

[Service]
ExecStart=/usr/bin/openssl s_server -accept 443 -www -cert /etc/hx-tls/tls.crt -key /etc/hx-tls/tls.key
Restart=on-failure

[Install]
WantedBy=multi-user.target
"""  # noqa: E501 - a unit's line cannot be broken more readably


def lay(shell: Shell, root: Path, authority: Pair, folder: Path) -> None:
    """Lay the service into the domain controller's root."""
    pair = issue(shell, authority, folder, [DC.fqdn, DC.name])
    put(root, "/etc/hx-tls/tls.crt", pair.certificate.read_text(encoding="utf-8"))
    put(root, "/etc/hx-tls/tls.key", pair.key.read_text(encoding="utf-8"), 0o600)
    put(root, "/etc/systemd/system/hx-tls.service", UNIT)
    enable(root, "hx-tls.service")
