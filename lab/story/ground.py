"""Bare hosts: that the ground is as the specification wants it, before anything is deployed."""

import json

from lab.control import netplan
from lab.domain import GROUP, REALM, USER
from lab.hosts import API, DC, DOMAIN
from lab.problems import expect
from lab.scene import Scene

# How long a netplan configuration that nobody confirms stays; Ansible needs some of it to look.
REVERT_AFTER_S = 40
NOBODYS_ADDRESS = "198.51.100.99"


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


def domain(scene: Scene) -> str:
    """See the gateway's host as a member, and the administrator that only the domain knows."""
    seen = scene.on(API, f"realm list; id {USER}; getent -s files passwd {USER} || echo not local")
    for wanted in (f"domain-name: {DOMAIN}", "kerberos-member", GROUP, "not local"):
        expect(wanted in seen.output, f"{API.name} does not show {wanted}:\n{seen.output}")
    return f"{API.name} is in {REALM}; {USER} is in {GROUP}"


def preflight(scene: Scene) -> str:
    """Phase 1 asks, phase 2 enforces what little it needs, and asks again: GO."""
    scene.control.play("preflight", "--limit", API.name)
    passed = 0
    for part in ("phase1", "phase2"):
        found = sorted(scene.evidence.glob(f"api-preflight/*/{API.name}/{part}/findings.json"))
        expect(found, f"no evidence of the preflight's {part}")
        findings = json.loads(found[-1].read_text(encoding="utf-8"))["findings"]
        verdicts = [finding["verdict"] for finding in findings]
        expect("fail" not in verdicts, f"{part} failed: {findings}")
        passed = verdicts.count("pass")
    return f"GO, {passed} checks hold after phase 2"


def netplan_revert(scene: Scene) -> str:
    """Let phase 2 try an address that cuts the host off: it must come back by itself."""
    look = "cat /etc/netplan/*.yaml; ip -4 -brief address show host0"
    before = scene.on(API, look).output
    wrong = {
        "hx_preflight_netplan_try_s": REVERT_AFTER_S,
        "hx_preflight_netplan_config": netplan(NOBODYS_ADDRESS),
    }
    limit = ("--limit", API.name)
    done = scene.control.play("preflight", *limit, "-e", json.dumps(wrong), check=False)
    expect(done.code != 0, "an address under which nobody answers was accepted")
    expect("went back" in done.output, f"it does not say so:\n{done.output[-2000:]}")
    after = scene.on(API, look).output
    expect(after == before, f"it is not what it was:\n{before}\n{after}")
    return f"{NOBODYS_ADDRESS} was tried, not confirmed, and reverted"
