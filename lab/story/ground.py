"""Bare hosts: that the ground is as the specification wants it, before anything is deployed."""

from lab.hosts import API, DC, DOMAIN
from lab.problems import expect
from lab.scene import Scene


def hosts(scene: Scene) -> str:
    """See names both ways from every host, one netplan file, one resolver, a trusted authority."""
    names = [host for host in scene.stage.hosts if host is not DC]
    for host in scene.stage.hosts:
        seen = scene.on(
            host,
            f"hostname -f; getent hosts {API.fqdn}; dig +short -x {API.address} @{DC.address};"
            " ls /etc/netplan; networkctl is-online >/dev/null; resolvectl dns host0;"
            f" curl -sS -o /dev/null -w 'tls %{{http_code}}\\n' https://{DC.fqdn}/",
        ).output
        for wanted in (
            host.fqdn,
            f"{API.address}",
            f"{API.fqdn}.",
            "50-hx-static.yaml",
            f": {DC.address}",
            "tls 200",
        ):
            expect(wanted in seen, f"{host.name} does not show {wanted}:\n{seen}")
    return f"{len(names) + 1} hosts of {DOMAIN}: names, netplan, resolver, authority"


def preflight(scene: Scene) -> str:
    """Phase 1: read-only checks, ending in GO."""
    done = scene.control.play("preflight", "--limit", API.name)
    return done.output.rpartition("PLAY RECAP")[2].strip()
