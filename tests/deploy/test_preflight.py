"""The preflight's judgements, from what commands of real Debian hosts print."""

from typing import Any

import pytest
from tests.deploy.playing import filters

KNOWN = filters("hx_preflight", "hx_preflight")
SITE: dict[str, Any] = {
    "always": True,
    "fqdn": "hx-api-server.dev-test.hana-x.ai",
    "address": "198.51.100.5",
    "dns_server": "198.51.100.2",
    "dns": True,
    "netplan": True,
    "netplan_file": "/etc/netplan/50-hx-static.yaml",
    "netplan_config": {},
    "resolver": True,
    "sso": True,
    "realm": "dev-test.hana-x.ai",
    "admin_user": "agent0",
    "admin_group": "hx-linux-admins",
    "ca": True,
    "ca_name": "HX Root CA",
    "ca_sha256": "",
    "tls": True,
    "tls_services": ["hx-dc.dev-test.hana-x.ai:636"],
    "python": "python3.11",
    "python_min": "3.11",
    "packages": ["python3-venv"],
    "port": 4000,
    "service": "litellm.service",
}
HEAD = ";; Got answer:\n;; ->>HEADER<<- opcode: QUERY, status: {}, id: 8333\n;; ANSWER SECTION:\n"
NETPLAN = "network:\n  version: 2\n  renderer: networkd\n  ethernets:\n    host0: {dhcp4: false}\n"
REALM = """\
dev-test.hana-x.ai
  type: kerberos
  realm-name: DEV-TEST.HANA-X.AI
  domain-name: dev-test.hana-x.ai
  configured: kerberos-member
  server-software: active-directory
"""
USER = "uid=1103(agent0) gid=513(domain users) groups=513(domain users),1104(hx-linux-admins)\n"
SUDO = """\
Matching Defaults entries for agent0 on hx-api-server:
    env_reset, mail_badpass

User agent0 may run the following commands on hx-api-server:
    (ALL : ALL) ALL
"""
TLS = "CONNECTION ESTABLISHED\nProtocol version: TLSv1.3\nVerification: OK\nDONE\n"
CA = '["00ff", "Some Authority"]\n["7b81", "HX Root CA"]\n'
SSHD = "LISTEN 0 128 0.0.0.0:22 0.0.0.0:*\n"

Said = dict[str, tuple[int, str]]
GOOD: Said = {
    "dns A": (0, HEAD.format("NOERROR") + f"{SITE['fqdn']}. 0 IN\tA\t198.51.100.5\n"),
    "dns PTR": (
        0,
        HEAD.format("NOERROR") + f"5.100.51.198.in-addr.arpa. 0\tIN\tPTR\t{SITE['fqdn']}.\n",
    ),
    "resolvectl dns": (0, "Global:\nLink 2 (host0): 198.51.100.2\n"),
    "resolvectl status": (0, ""),
    "resolv.conf": (0, "# managed\nnameserver 127.0.0.53\nsearch dev-test.hana-x.ai\n"),
    "netplan files": (1, "/etc/netplan/50-hx-static.yaml\n"),
    "netplan get": (0, NETPLAN),
    "netplan status": (0, ""),
    "realm list": (0, REALM),
    "id": (0, USER),
    "local account": (2, ""),
    "sudo -l": (0, SUDO),
    "ca": (0, CA),
    "tls hx-dc.dev-test.hana-x.ai:636": (0, TLS),
    "python python3": (0, "3.11.2\n"),
    "python python3.11": (0, "3.11.2\n"),
    "listeners": (0, SSHD),
    "unit": (3, "inactive\n"),
}
MISSING = (127, "timeout: failed to run command: No such file or directory")


def judge(said: Said | None = None, **site: Any) -> dict[str, dict[str, str]]:
    """Answer the role's own commands with what a good host says, but for `said`."""
    known = SITE | site
    answers = GOOD | (said or {})
    results = []
    for item in KNOWN["hx_preflight_commands"](known):
        rc, out = answers[item["id"]]
        results.append({"item": item, "rc": rc, "stdout": out, "stderr": ""})
    return {f["check"]: f for f in KNOWN["hx_preflight_findings"](results, known)}


def test_a_good_host_passes_every_check() -> None:
    found = judge()
    assert {name: f["verdict"] for name, f in found.items()} == dict.fromkeys(
        [
            "dns A",
            "dns PTR",
            "netplan file",
            "netplan renderer",
            "resolver",
            "realm",
            "admin user",
            "admin sudo",
            "ca",
            "tls hx-dc.dev-test.hana-x.ai:636",
            "python",
            "port 4000",
        ],
        "pass",
    )


TWO = "/etc/netplan/00-installer.yaml\n/etc/netplan/50-hx-static.yaml\n"
NXDOMAIN = HEAD.format("NXDOMAIN")
DEAD = ";; communications error to 198.51.100.2#53: timed out\n\n;; no servers could be reached\n"
FORGED = "CONNECTION ESTABLISHED\nverify error:num=20:unable to get local issuer certificate\n"
HOLDER = 'LISTEN 0 128 *:4000 *:* users:(("nginx",pid=7,fd=3))\n'
LOCAL_A = HEAD.format("NOERROR") + f"{SITE['fqdn']}. 0 IN A 127.0.1.1\n"
TWO_A = GOOD["dns A"][1] + f"{SITE['fqdn']}. 0 IN A 198.51.100.9\n"
TLS_ID = "tls hx-dc.dev-test.hana-x.ai:636"
DHCP = "Global:\nLink 2 (host0): 198.51.100.2 9.9.9.9\n"
NM = NETPLAN.replace("networkd", "NetworkManager")
NM_PART = NETPLAN.replace("{dhcp4: false}", "{renderer: NetworkManager}")


@pytest.mark.parametrize(
    ("asked", "answer", "check", "verdict", "found"),
    [
        ("dns A", (0, NXDOMAIN), "dns A", "fail", "NXDOMAIN"),
        ("dns A", (0, HEAD.format("NOERROR")), "dns A", "fail", "no such record"),
        ("dns A", (9, DEAD), "dns A", "fail", "no servers could be reached"),
        ("dns A", (0, LOCAL_A), "dns A", "fail", "127.0.1.1"),
        ("dns A", (0, TWO_A), "dns A", "fail", "198.51.100.5, 198.51.100.9"),
        ("dns A", MISSING, "dns A", "fail", "dig is not installed"),
        ("dns PTR", (0, NXDOMAIN), "dns PTR", "fail", "NXDOMAIN"),
        ("netplan files", (0, TWO), "netplan file", "fail", TWO.strip().replace("\n", ", ")),
        ("netplan files", (1, ""), "netplan file", "fail", "none"),
        ("netplan get", (0, NM), "netplan renderer", "fail", "network: NetworkManager"),
        (
            "netplan get",
            (0, NM_PART),
            "netplan renderer",
            "fail",
            "network: networkd, host0: NetworkManager",
        ),
        ("netplan get", MISSING, "netplan renderer", "fail", "netplan is not installed"),
        ("resolvectl dns", (0, DHCP), "resolver", "fail", "198.51.100.2, 9.9.9.9"),
        (
            "resolv.conf",
            (0, "nameserver 9.9.9.9\n"),
            "resolver",
            "fail",
            "198.51.100.2, 9.9.9.9",
        ),
        ("realm list", (0, ""), "realm", "fail", "exit code 0"),
        ("realm list", MISSING, "realm", "fail", "realm is not installed"),
        ("id", (1, "id: 'agent0': no such user"), "admin user", "fail", None),
        ("id", (0, "uid=1(agent0) groups=513(users)"), "admin user", "fail", None),
        ("local account", (0, "agent0:x:1000"), "admin user", "fail", None),
        ("sudo -l", (0, "User agent0 is not allowed to run sudo"), "admin sudo", "pending", None),
        ("sudo -l", MISSING, "admin sudo", "fail", "sudo is not installed"),
        ("ca", (0, CA.replace("HX Root CA", "HX Root")), "ca", "fail", "not among 2 authorities"),
        (TLS_ID, (1, FORGED), TLS_ID, "fail", "unable to get local issuer certificate"),
        (TLS_ID, (124, ""), TLS_ID, "fail", "exit code 124"),
        ("listeners", (0, SSHD + HOLDER), "port 4000", "fail", "held by nginx"),
        ("listeners", MISSING, "port 4000", "unknown", "ss is not installed"),
        ("python python3", MISSING, "python", "pass", "python3.11 3.11.2"),
    ],
)
def test_each_fault_is_told(
    asked: str, answer: tuple[int, str], check: str, verdict: str, found: str | None
) -> None:
    told = judge({asked: answer})
    assert told[check]["verdict"] == verdict
    if found is not None:
        assert told[check]["found"] == found
    if verdict != "pass":
        assert told[check]["mend"]
        assert told[check]["expected"]


def test_what_phase_2_mends_is_pending() -> None:
    old = (0, "3.9.2\n")
    assert judge({"python python3": old, "python python3.11": MISSING})["python"] == {
        "check": "python",
        "verdict": "pending",
        "expected": "Python >= 3.11 with ensurepip",
        "found": "python3: 3.9.2; python3.11: python3.11 is not installed",
        "mend": "phase 2 installs python3-venv",
    }
    two = judge({"netplan files": (0, TWO)}, netplan_config={"network": {}})
    assert two["netplan file"]["verdict"] == "pending"


def test_our_own_service_may_hold_the_port() -> None:
    told = judge({"listeners": (0, HOLDER), "unit": (0, "active\n")})
    assert told["port 4000"]["verdict"] == "pass"


@pytest.mark.parametrize("name", ["hx-linux-admins@dev-test.hana-x.ai", "HX\\hx-linux-admins"])
def test_sssd_may_add_the_domain_to_a_group(name: str) -> None:
    assert judge({"id": (0, USER.replace("hx-linux-admins", name))})["admin user"]["verdict"] == (
        "pass"
    )


@pytest.mark.parametrize("wanted", ["7B:81", "7b81"])
def test_a_fingerprint_is_stricter_than_a_name(wanted: str) -> None:
    assert judge(ca_sha256=wanted)["ca"]["verdict"] == "pass"
    assert judge(ca_sha256="00ee")["ca"]["verdict"] == "fail"


def test_without_systemd_resolved_resolv_conf_counts() -> None:
    only = {"resolvectl dns": MISSING, "resolv.conf": (0, "nameserver 198.51.100.2\n")}
    assert judge(only)["resolver"]["verdict"] == "pass"
    only["resolv.conf"] = (0, "nameserver 127.0.0.53\n")
    assert judge(only)["resolver"]["verdict"] == "fail"


@pytest.mark.parametrize(
    ("switch", "checks"),
    [
        ("dns", ["dns A", "dns PTR"]),
        ("netplan", ["netplan file", "netplan renderer"]),
        ("resolver", ["resolver"]),
        ("sso", ["realm", "admin user", "admin sudo"]),
        ("ca", ["ca"]),
        ("tls", ["tls"]),
    ],
)
def test_a_check_that_is_off_is_skipped_and_not_passed(switch: str, checks: list[str]) -> None:
    off: dict[str, Any] = {switch: False, "tls_services": []}
    told = judge(None, **off)
    for check in checks:
        assert told[check]["verdict"] == "skipped"
        assert told[check]["found"] == f"hx_preflight_{switch} is false"


def test_no_services_are_no_pass() -> None:
    told = judge(tls_services=[])["tls"]
    assert (told["verdict"], told["found"]) == ("skipped", "hx_preflight_tls_services is empty")


def test_every_command_only_reads() -> None:
    programs = {item["argv"][0] for item in KNOWN["hx_preflight_commands"](SITE)}
    readers = {"dig", "resolvectl", "cat", "find", "realm", "id", "getent", "sudo", "openssl"}
    readers |= {"python3", "python3.11", "ss", "systemctl", "netplan"}
    assert programs <= readers
    for item in KNOWN["hx_preflight_commands"](SITE):
        if item["argv"][0] in {"netplan", "realm", "systemctl", "sudo", "resolvectl"}:
            assert not {"apply", "set", "join", "start", "generate"} & set(item["argv"])
