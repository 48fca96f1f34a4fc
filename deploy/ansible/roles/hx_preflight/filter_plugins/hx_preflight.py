"""What the preflight asks a host, and what it makes of the answers.

`commands` says what to run; all of it only reads. `findings` judges what came back. Neither touches
anything, so that every judgement can be tested with the answers of a real host. `site` is the
dictionary of the role's variables without their prefix.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import yaml

Site = Mapping[str, Any]
Finding = dict[str, str]

COMMAND_TIMEOUT_S = "20"
NOT_FOUND = 127  # what timeout(1) exits with when there is no such program
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
# The addresses of systemd-resolved's own listener in /etc/resolv.conf.
STUBS = {"127.0.0.53", "127.0.0.54"}
NETPLAN_FOLDERS = ("/etc/netplan", "/run/netplan", "/lib/netplan")

ALL_RIGHTS = re.compile(r"^\s+\(ALL(?: : ALL)?\) (?:NOPASSWD: |PASSWD: )?ALL$", re.MULTILINE)

# Prints each authority of the bundle: its fingerprint and its names.
LIST_AUTHORITIES = f"""\
import hashlib, json, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.load_verify_locations({BUNDLE!r})
for der, shown in zip(context.get_ca_certs(binary_form=True), context.get_ca_certs()):
    names = {{key: value for part in shown["subject"] for key, value in part}}
    print(json.dumps([hashlib.sha256(der).hexdigest(), names.get("commonName", "")]))
"""
# A venv needs ensurepip, which Debian keeps in a package of its own.
TELL_VERSION = "import ensurepip, sys; print('%d.%d.%d' % sys.version_info[:3])"


class Answer:
    """What one command said."""

    def __init__(self, result: Mapping[str, Any]) -> None:
        self.rc = int(result.get("rc", NOT_FOUND))
        self.out = str(result.get("stdout", ""))
        self.err = str(result.get("stderr", ""))
        self.program = str(result["item"]["argv"][0])

    @property
    def ok(self) -> bool:
        """Whether it ended well."""
        return self.rc == 0

    @property
    def missing(self) -> bool:
        """Whether there is no such program."""
        return self.rc == NOT_FOUND

    @property
    def short(self) -> str:
        """The last line said, or the exit code, for people."""
        if self.missing:
            return f"{self.program} is not installed"
        lines = (self.err.strip() or self.out.strip()).splitlines()
        return lines[-1].strip() if lines else f"exit code {self.rc}"


Answers = Mapping[str, Answer]


def commands(site: Site) -> list[dict[str, Any]]:
    """Return the commands to run, `{id, argv, stdin}` each."""
    asked = {
        **_ask_network(site),
        **_ask_identity(site),
        "ca": ["python3", "-c", LIST_AUTHORITIES],
        **{f"tls {service}": _rehearse(service) for service in site["tls_services"]},
        **{f"python {name}": [name, "-c", TELL_VERSION] for name in _pythons(site)},
        "listeners": ["ss", "-Hltnp"],
        "unit": ["systemctl", "is-active", site["service"]],
    }
    return [{"id": name, "argv": argv, "stdin": "Q\n"} for name, argv in asked.items()]


def _ask_network(site: Site) -> dict[str, list[str]]:
    dig = ["dig", "+time=3", "+tries=2", "+noall", "+comments", "+answer", f"@{site['dns_server']}"]
    asked = {
        "dns A": [*dig, "A", site["fqdn"]],
        "dns PTR": [*dig, "-x", site["address"]],
        "resolvectl dns": ["resolvectl", "dns"],
        "resolvectl status": ["resolvectl", "--no-pager", "status"],
        "resolv.conf": ["cat", "/etc/resolv.conf"],
    }
    if site["netplan"]:
        asked |= {
            "netplan files": ["find", *NETPLAN_FOLDERS, "-maxdepth", "1", "-name", "*.yaml"],
            "netplan get": ["netplan", "get"],
            "netplan status": ["netplan", "status", "--all"],
        }
    return asked


def _ask_identity(site: Site) -> dict[str, list[str]]:
    user = site["admin_user"]
    if not site["sso"]:
        return {}
    return {
        "realm list": ["realm", "list"],
        "id": ["id", user],
        "local account": ["getent", "-s", "files", "passwd", user],
        "sudo -l": ["sudo", "-n", "-l", "-U", user],
    }


def _rehearse(service: str) -> list[str]:
    host = service.rpartition(":")[0]
    verify = ["-verify_return_error", "-verify_hostname", host, "-CAfile", BUNDLE]
    return ["openssl", "s_client", "-brief", "-connect", service, "-servername", host, *verify]


def _pythons(site: Site) -> list[str]:
    return list(dict.fromkeys(["python3", site["python"]]))


def findings(results: Iterable[Mapping[str, Any]], site: Site) -> list[Finding]:
    """Return a finding for each check, also for those that are switched off."""
    said = {result["item"]["id"]: Answer(result) for result in results}
    return [
        finding
        for switch, check in CHECKS
        for finding in (check(said, site) if site[switch] else _switched_off(check, switch))
    ]


def _switched_off(check: Callable[..., Any], switch: str) -> list[Finding]:
    found = f"hx_preflight_{switch} is false"
    return [_finding(name, "skipped", "", found) for name in NAMES[check]]


def _finding(check: str, verdict: str, expected: str, found: str, mend: str = "") -> Finding:
    return {"check": check, "verdict": verdict, "expected": expected, "found": found, "mend": mend}


def _judged(check: str, *, holds: bool, expected: str, found: str, mend: str) -> Finding:
    return _finding(check, "pass" if holds else "fail", expected, found, mend)


def check_dns(said: Answers, site: Site) -> list[Finding]:
    """Judge the A and PTR records as the given server tells them."""
    server = site["dns_server"]
    return [
        _judged(
            name,
            holds=_records(said[name], kind) == [wanted],
            expected=f"{wanted}, and nothing else, from {server}",
            found=", ".join(_records(said[name], kind)) or _dns_failure(said[name]),
            mend=f"set the {kind} record on {server}" if not said[name].missing else DIG,
        )
        for name, kind, wanted in (
            ("dns A", "A", site["address"]),
            ("dns PTR", "PTR", site["fqdn"]),
        )
    ]


DIG = "apt-get install bind9-dnsutils"


def _records(answer: Answer, kind: str) -> list[str]:
    rows = re.findall(rf"^[^;\s]\S*\s+\d+\s+IN\s+{kind}\s+(\S+)", answer.out, re.MULTILINE)
    return sorted(row.rstrip(".").lower() for row in rows)


def _dns_failure(answer: Answer) -> str:
    status = re.search(r"status: (\w+)", answer.out)
    if answer.missing or not status:
        lines = [line.lstrip("; ") for line in answer.out.splitlines() if line.startswith(";;")]
        return lines[-1] if lines and not answer.missing else answer.short
    return "no such record" if status[1] == "NOERROR" else status[1]


def check_netplan(said: Answers, site: Site) -> list[Finding]:
    """Judge that one file describes the network, and that networkd carries it out."""
    files = sorted(said["netplan files"].out.split())
    wanted = site["netplan_file"]
    one = files == [wanted] if wanted else len(files) == 1
    repairs = not one and bool(site["netplan_config"])
    return [
        _finding(
            "netplan file",
            "pass" if one else "pending" if repairs else "fail",
            f"one file, {wanted or 'in /etc/netplan'}",
            ", ".join(files) or "none",
            "phase 2 keeps a copy of them and writes the one file"
            if repairs
            else "describe the network in one file, or give hx_preflight_netplan_config",
        ),
        _renderer(said["netplan get"]),
    ]


def _renderer(answer: Answer) -> Finding:
    network = _network(answer)
    renderers = {"network": network.get("renderer", "networkd, by default")}
    for kind in ("ethernets", "bonds", "bridges", "vlans", "wifis"):
        for name, device in (network.get(kind) or {}).items():
            if "renderer" in device:
                renderers[name] = device["renderer"]
    return _judged(
        "netplan renderer",
        holds=bool(network) and all(r.startswith("networkd") for r in renderers.values()),
        expected="networkd",
        found=", ".join(f"{name}: {r}" for name, r in renderers.items())
        if network
        else answer.short,
        mend="set renderer: networkd in the netplan file"
        if not answer.missing
        else "apt-get install netplan.io, or set hx_preflight_netplan to false",
    )


def _network(answer: Answer) -> dict[str, Any]:
    try:
        document = yaml.safe_load(answer.out) if answer.ok else None
    except yaml.YAMLError:
        return {}
    network = document.get("network") if isinstance(document, dict) else None
    return network if isinstance(network, dict) else {}


def check_resolver(said: Answers, site: Site) -> list[Finding]:
    """Judge that names are asked of the domain controller alone."""
    servers = _servers(said)
    return [
        _judged(
            "resolver",
            holds=servers == {site["dns_server"]},
            expected=f"{site['dns_server']} alone",
            found=", ".join(sorted(servers)) or "none",
            mend="name it alone under nameservers in the netplan file (and none from DHCP: "
            "dhcp4-overrides: {use-dns: false})",
        )
    ]


def _servers(said: Answers) -> set[str]:
    resolv_conf = re.findall(r"^nameserver\s+(\S+)", said["resolv.conf"].out, re.MULTILINE)
    resolved = said["resolvectl dns"]
    if not resolved.ok:
        return set(resolv_conf)
    lines = (line.partition("): ")[2] or line.partition("Global: ")[2] for line in _lines(resolved))
    return {server for line in lines for server in line.split()} | set(resolv_conf) - STUBS


def _lines(answer: Answer) -> list[str]:
    return answer.out.splitlines()


def check_sso(said: Answers, site: Site) -> list[Finding]:
    """Judge that the host is in the domain, and that the administrator's rights come from it."""
    realm, user, group = site["realm"].lower(), site["admin_user"], site["admin_group"]
    names = re.findall(r"domain-name: (\S+)", said["realm list"].out)
    joined = "configured: kerberos-member" in said["realm list"].out
    local = said["local account"].ok
    member = group.lower() in _groups(said["id"])
    known = f"{user} in {group}" if member else f"{user}, not in {group}"
    return [
        _judged(
            "realm",
            holds=joined and realm in [name.lower() for name in names],
            expected=f"a member of {realm}",
            found=", ".join(names) if joined else said["realm list"].short or "no realm",
            mend=f"realm join {realm}"
            if not said["realm list"].missing
            else f"apt-get install realmd sssd adcli, then realm join {realm}",
        ),
        _judged(
            "admin user",
            holds=said["id"].ok and member and not local,
            expected=f"{user} from the domain, in {group}",
            found=("a local account: " if local else "")
            + (known if said["id"].ok else said["id"].short),
            mend=f"add {user} to {group} in the domain, keep no local {user}, and sss_cache -E",
        ),
        _sudo(said, site, member=member and not local),
    ]


def _groups(answer: Answer) -> set[str]:
    """Return the names of the groups, without the domain that sssd may add to them."""
    groups = answer.out.partition("groups=")[2].strip()
    names = re.findall(r"\(([^)]*)\)", groups)
    return {name.rpartition("\\")[2].partition("@")[0].lower() for name in names}


def _sudo(said: Answers, site: Site, *, member: bool) -> Finding:
    answer = said["sudo -l"]
    allowed = ALL_RIGHTS.search(answer.out)
    pending = not allowed and member and not answer.missing
    return _finding(
        "admin sudo",
        "pass" if allowed else "pending" if pending else "fail",
        f"{site['admin_user']} may run (ALL : ALL) ALL",
        allowed[0].strip() if allowed else answer.short,
        f"phase 2 writes the drop-in for %{site['admin_group']}"
        if pending
        else "apt-get install sudo"
        if answer.missing
        else f"{site['admin_user']} must be in {site['admin_group']}, to which phase 2 gives it",
    )


def check_ca(said: Answers, site: Site) -> list[Finding]:
    """Judge that the site's authority is one that the host trusts."""
    wanted = str(site["ca_sha256"]).replace(":", "").lower()
    known = [json.loads(line) for line in _lines(said["ca"]) if line.startswith("[")]
    hits = [f"{name} {digest}" for digest, name in known if wanted == digest or not wanted]
    hits = [hit for hit in hits if wanted or hit.rpartition(" ")[0] == site["ca_name"]]
    return [
        _judged(
            "ca",
            holds=bool(hits),
            expected=f"{site['ca_name']} {wanted}".strip() + f" in {BUNDLE}",
            found=", ".join(hits) or f"not among {len(known)} authorities"
            if said["ca"].ok
            else said["ca"].short,
            mend="copy it to /usr/local/share/ca-certificates/NAME.crt; update-ca-certificates",
        )
    ]


def check_tls(said: Answers, site: Site) -> list[Finding]:
    """Judge a rehearsal of TLS with each service: its chain and its name, by the system's store."""
    if not site["tls_services"]:
        return [_finding("tls", "skipped", "", "hx_preflight_tls_services is empty")]
    return [_rehearsal(service, said[f"tls {service}"]) for service in site["tls_services"]]


def _rehearsal(service: str, answer: Answer) -> Finding:
    text = answer.out + answer.err
    version = re.search(r"Protocol version: (\S+)", text)
    verified = "Verification: OK" in text
    reason = re.search(r"(?:verify error:.*?:|error:num=\d+:)(.*)", text)
    return _judged(
        f"tls {service}",
        holds=answer.ok and verified,
        expected="a certificate of this name that the system's store verifies",
        found=f"verified, {version[1] if version else 'TLS'}"
        if answer.ok and verified
        else reason[1]
        if reason
        else answer.short,
        mend="its certificate must be of a trusted authority and carry this name; is it running?",
    )


def check_python(said: Answers, site: Site) -> list[Finding]:
    """Judge that there is a Python new enough that can make a venv; phase 2 can install it."""
    known = {name: said[f"python {name}"] for name in _pythons(site)}
    good = {
        name: answer.out.strip()
        for name, answer in known.items()
        if answer.ok and _version(answer.out) >= _version(site["python_min"])
    }
    shown = {name: f"{name} {version}" for name, version in good.items()}
    wrong = [f"{name}: {a.out.strip() if a.ok else a.short}" for name, a in known.items()]
    return [
        _finding(
            "python",
            "pass" if good else "pending",
            f"Python >= {site['python_min']} with ensurepip",
            ", ".join(shown.values()) or "; ".join(wrong),
            f"phase 2 installs {', '.join(site['packages'])}",
        )
    ]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def check_port(said: Answers, site: Site) -> list[Finding]:
    """Judge that the gateway's port is free, or held by the gateway itself."""
    port = site["port"]
    if not said["listeners"].ok:
        expected, mend = f"free, or {site['service']}", "apt-get install iproute2"
        return [_finding(f"port {port}", "unknown", expected, said["listeners"].short, mend)]
    holders = [line for line in _lines(said["listeners"]) if line.split()[3].endswith(f":{port}")]
    ours = said["unit"].out.strip() == "active"
    program = re.search(r'\(\("([^"]+)"', holders[0]) if holders else None
    return [
        _judged(
            f"port {port}",
            holds=not holders or ours,
            expected=f"free, or {site['service']}",
            found=f"{site['service']} is active"
            if holders and ours
            else f"held by {program[1] if program else 'somebody'}"
            if holders
            else "free",
            mend=f"stop what listens there (ss -ltnp 'sport = :{port}'), or choose another port",
        )
    ]


# The variable that switches each off, in the order of the specification.
CHECKS: list[tuple[str, Callable[[Answers, Site], list[Finding]]]] = [
    ("dns", check_dns),
    ("netplan", check_netplan),
    ("resolver", check_resolver),
    ("sso", check_sso),
    ("ca", check_ca),
    ("tls", check_tls),
    ("always", check_python),
    ("always", check_port),
]
NAMES: dict[Callable[..., Any], tuple[str, ...]] = {
    check_dns: ("dns A", "dns PTR"),
    check_netplan: ("netplan file", "netplan renderer"),
    check_resolver: ("resolver",),
    check_sso: ("realm", "admin user", "admin sudo"),
    check_ca: ("ca",),
    check_tls: ("tls",),
}


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"hx_preflight_commands": commands, "hx_preflight_findings": findings}
