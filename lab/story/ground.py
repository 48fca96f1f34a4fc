"""Bare hosts: that the ground is as the specification wants it, before anything is deployed."""

import json
import shlex
import time

from lab.control import netplan
from lab.domain import GROUP, REALM, USER
from lab.hosts import API, DC, DOMAIN
from lab.problems import LabProblem, expect
from lab.scene import Scene

# How long a netplan configuration that nobody confirms stays; Ansible needs some of it to look.
REVERT_AFTER_S = 40
# A try that only a start of the machine can end in time: the timer would go back much later.
RESTART_AFTER_S = 10
REVERT_MUCH_LATER_S = 900
RESTART_TIMEOUT_S = 120.0
# The files, and the address alone: the link's other end has another number after each start.
LOOK = "cat /etc/netplan/*.yaml; ip -4 -oneline address show host0 | grep -o 'inet [^ ]*'"
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
    before = scene.on(API, LOOK).output
    wrong = {
        "hx_preflight_netplan_try_s": REVERT_AFTER_S,
        "hx_preflight_netplan_config": netplan(NOBODYS_ADDRESS),
    }
    limit = ("--limit", API.name)
    done = scene.control.play("preflight", *limit, "-e", json.dumps(wrong), check=False)
    expect(done.code != 0, "an address under which nobody answers was accepted")
    expect("went back" in done.output, f"it does not say so:\n{done.output[-2000:]}")
    after = scene.on(API, LOOK).output
    expect(after == before, f"it is not what it was:\n{before}\n{after}")
    return f"{NOBODYS_ADDRESS} was tried, not confirmed, and reverted"


def netplan_revert_at_boot(scene: Scene) -> str:
    """Restart a host amidst a try that cut it off: it must go back before its network starts."""
    boot_id = "cat /proc/sys/kernel/random/boot_id"
    before, first = scene.on(API, LOOK).output, scene.on(API, boot_id).output
    wrong = shlex.quote(json.dumps(netplan(NOBODYS_ADDRESS)))
    began = time.monotonic()
    scene.on(
        API,
        f"printf %s {wrong} >/run/wrong.yaml;"
        f" systemd-run -q --collect --on-active={RESTART_AFTER_S}"
        " --timer-property=AccuracySec=1s systemctl reboot;"
        " hx-netplan-try begin /run/wrong.yaml /etc/netplan/50-hx-static.yaml"
        f" {REVERT_MUCH_LATER_S}; rm /run/wrong.yaml",
    )
    _wait_for_restart(scene, boot_id, first)
    took_s = time.monotonic() - began
    expect(scene.on(API, LOOK).output == before, "the old file is not back")
    state = scene.on(API, "ls /var/lib/hx-netplan-try /etc/systemd/system").output.split()
    for mark, there in (("applied", True), ("reverted", True), ("unconfirmed", False)):
        expect((mark in state) is there, f"{mark} should be there: {there}; there are {state}")
    armed = "hx-netplan-revert-at-boot.service" in state
    expect(not armed, "the unit that goes back is still armed")
    return f"{NOBODYS_ADDRESS} was tried, the host restarted, and was back after {took_s:.0f} s"


def _wait_for_restart(scene: Scene, boot_id: str, first: str) -> None:
    deadline = time.monotonic() + RESTART_TIMEOUT_S
    while time.monotonic() < deadline:
        time.sleep(1)
        done = scene.on(API, boot_id, check=False, timeout_s=10)
        if done.code == 0 and done.output != first:
            scene.on(API, "systemctl is-system-running --wait", check=False)
            return
    raise LabProblem(f"{API.name} did not come back within {RESTART_TIMEOUT_S:g} s")
