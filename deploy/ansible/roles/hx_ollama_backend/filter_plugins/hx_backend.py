"""What the facts of Ollama hosts come to: versions, models, environment, addresses.

`hosts` maps each host's name to `{unit, version, models, environment}`: whether systemd knows the
unit, what `/api/version` said (empty when nobody answered), names and digests of `/api/tags`, and
the environment of the running process.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

Finding = dict[str, str]
Hosts = Mapping[str, Mapping[str, Any]]

OK = 200
DIGEST_CHARS_MIN = 12  # what `ollama list` shows


def _finding(check: str, verdict: str, expected: str, found: str, mend: str = "") -> Finding:
    return {"check": check, "verdict": verdict, "expected": expected, "found": found, "mend": mend}


def findings(hosts: Hosts, name: str, wanted: Mapping[str, Any]) -> list[Finding]:
    """Judge one host, by the others too.

    `wanted`: `service`, `version`, `models`, `pull`, `environment`.
    """
    host = hosts[name]
    return [
        _unit(host, wanted["service"]),
        _version(hosts, name, wanted["version"]),
        _environment(host["environment"], wanted["environment"]),
        *(_model(hosts, name, model, pull=wanted["pull"]) for model in wanted["models"]),
    ]


def _unit(host: Mapping[str, Any], service: str) -> Finding:
    return _finding(
        "unit",
        "pass" if host["unit"] else "fail",
        service,
        service if host["unit"] else "no such unit",
        "install Ollama (https://ollama.com/download), or name its unit in "
        "hx_ollama_backend_service",
    )


def _version(hosts: Hosts, name: str, pinned: str) -> Finding:
    """Ask for one version everywhere: it decides which prompt a model's template makes."""
    versions = {host: facts["version"] for host, facts in hosts.items() if facts["version"]}
    mine = versions.get(name)
    expected = pinned or (f"the same on {', '.join(hosts)}" if len(hosts) > 1 else "an answer")
    if not mine:
        mend = "the role restarts the service and asks again; journalctl -u ollama tells why not"
        return _finding("version", "pending", expected, "no answer", mend)
    same = set(versions.values()) == {pinned or mine}
    return _finding(
        "version",
        "pass" if same else "fail",
        expected,
        mine if same else ", ".join(f"{host} {version}" for host, version in versions.items()),
        "install the same version of Ollama on all hosts",
    )


def _environment(known: Mapping[str, str], wanted: Mapping[str, str]) -> Finding:
    wrong = [
        f"{key}={known.get(key, '')}" for key, value in wanted.items() if known.get(key) != value
    ]
    return _finding(
        "environment",
        "pending" if wrong else "pass",
        ", ".join(f"{key}={value}" for key, value in wanted.items()),
        ", ".join(wrong) or "the running process has it",
        "the role writes it and restarts the service; if it stays, another drop-in wins: "
        "systemctl cat ollama",
    )


def _model(hosts: Hosts, name: str, model: Mapping[str, str], *, pull: bool) -> Finding:
    wanted = _tagged(model["name"])
    digest = model.get("digest", "").removeprefix("sha256:").lower()
    digests = {
        host: facts["models"][wanted] for host, facts in hosts.items() if wanted in facts["models"]
    }
    mine = digests.get(name)
    repair = "the role pulls it" if pull else f"ollama pull {wanted}, or set hx_ollama_pull to true"
    expected = digest or "the same digest on all hosts"
    if not mine:
        found = "missing" if hosts[name]["version"] else "nobody answered"
        later = pull or found != "missing"
        return _finding(f"model {wanted}", "pending" if later else "fail", expected, found, repair)
    if digest and not _is(mine, digest):
        verdict = "pending" if pull else "fail"
        return _finding(f"model {wanted}", verdict, expected, _short(mine), repair)
    same = bool(digest) or len(set(digests.values())) == 1
    shown = ", ".join(f"{host} {_short(value)}" for host, value in digests.items())
    return _finding(
        f"model {wanted}",
        "pass" if same else "fail",
        expected,
        _short(mine) if same else shown,
        "the tag means different weights on the hosts: pull it anew on all, and pin its digest",
    )


def _is(digest: str, wanted: str) -> bool:
    return len(wanted) >= DIGEST_CHARS_MIN and digest.startswith(wanted)


def _short(digest: str) -> str:
    return digest[:DIGEST_CHARS_MIN]


def _tagged(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def to_pull(hosts: Hosts, name: str, models: Iterable[Mapping[str, str]]) -> list[str]:
    """Return the models that are missing, or have another digest than is wanted."""
    known = hosts[name]["models"]
    return [
        wanted
        for model in models
        if (wanted := _tagged(model["name"])) not in known
        or (
            (digest := model.get("digest", "").removeprefix("sha256:").lower())
            and not _is(known[wanted], digest)
        )
    ]


def installed(tags: Mapping[str, Any]) -> dict[str, str]:
    """Return names and digests of an answer of `/api/tags`; `models` is null on an empty host."""
    return {
        str(model["name"]): str(model.get("digest", "")).removeprefix("sha256:")
        for model in (tags.get("models") or [])
    }


def environment(text: str) -> dict[str, str]:
    """Return the content of /proc/PID/environ as a dictionary."""
    pairs = (part.partition("=") for part in text.split("\0") if "=" in part)
    return {name: value for name, _, value in pairs}


def addresses(results: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Sort what `getent ahosts` said, and networks given as such, by protocol: `v4` and `v6`."""
    found: dict[str, set[str]] = {"v4": set(), "v6": set()}
    for result in results:
        lines = str(result.get("stdout", "")).splitlines()
        for text in {line.split()[0] for line in lines} or {str(result["item"])}:
            try:
                network = ipaddress.ip_network(text.partition("%")[0], strict=False)
            except ValueError:
                continue  # a name that did not resolve; the role stops at it
            single = network.num_addresses == 1
            found[f"v{network.version}"].add(str(network[0] if single else network))
    return {kind: sorted(values) for kind, values in found.items()}


def proofs(facts: Mapping[str, Any]) -> list[Finding]:
    """Judge what the port answered to the gateway, and to the control node.

    `facts`: `prove`, `firewall`, `port`, `client` (the control node's address as the host sees it,
    empty without SSH), `addresses` (who may reach the port), `open_here`, and `gateways` (the HTTP
    status that each got, -1 for none).
    """
    if not facts["prove"]:
        return [_finding("port", "skipped", "", "hx_ollama_backend_prove is false")]
    refused = [host for host, status in facts["gateways"].items() if status != OK]
    gateway = _finding(
        "port open to the gateway",
        "pass" if facts["gateways"] and not refused else "fail",
        f"an answer on {facts['port']} to every gateway",
        f"no answer to {', '.join(refused)}" if refused else ", ".join(facts["gateways"]) or "none",
        "the gateway's address must be among hx_ollama_backend_sources; is there another firewall?",
    )
    return [gateway, _closed(facts)]


def _closed(facts: Mapping[str, Any]) -> Finding:
    name = "port closed to others"
    if not facts["firewall"]:
        return _finding(name, "skipped", "", "hx_ollama_backend_firewall is false")
    if not facts["client"]:
        return _finding(name, "skipped", "", "the control node is this host")
    if _allowed(facts["client"], facts["addresses"]):
        return _finding(name, "skipped", "", f"{facts['client']} may reach it")
    return _finding(
        name,
        "fail" if facts["open_here"] else "pass",
        f"no connection from {facts['client']}",
        "it answers" if facts["open_here"] else f"refused to {facts['client']}",
        "systemctl status hx-ollama-firewall; nft list table inet hx_ollama",
    )


def _allowed(client: str, known: Mapping[str, Iterable[str]]) -> bool:
    address = ipaddress.ip_address(client.partition("%")[0])
    return any(address in ipaddress.ip_network(one) for one in known[f"v{address.version}"])


def hosts_with_facts(names: Iterable[str], variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of those hosts that were looked at."""
    known = {name: variables[name].get("_hx_ollama_backend_facts") for name in names}
    return {name: facts for name, facts in known.items() if facts}


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "hx_backend_hosts": hosts_with_facts,
            "hx_backend_proofs": proofs,
            "hx_backend_findings": findings,
            "hx_backend_to_pull": to_pull,
            "hx_backend_installed": installed,
            "hx_backend_environment": environment,
            "hx_backend_addresses": addresses,
        }
