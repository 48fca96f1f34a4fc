"""What the gateway's host and the model servers say about an acceptance.

The findings have the words of `arriero smoke` (`step`, `verdict`, `detail`, `hint`), as they go
into the same bundle.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

Finding = dict[str, str | None]

LOOPBACK = re.compile(r"^(?:127\.|\[?::1\]?|\[?::ffff:127\.)")
YEAR_OF_NEVER = 2200  # Ollama's "never" is as far off as a duration of Go's can reach


def _finding(step: str, verdict: str, detail: str, hint: str | None = None) -> Finding:
    return {"step": step, "verdict": verdict, "detail": detail, "hint": hint}


def host_findings(facts: Mapping[str, Any]) -> list[Finding]:
    """Judge the gateway's host.

    `facts`: `service`, `show` (what `systemctl show` printed), `port`, `listeners` (what `ss -Hltn`
    printed).
    """
    shown = dict(line.split("=", 1) for line in facts["show"].splitlines() if "=" in line)
    state = f"{shown.get('ActiveState', '?')} ({shown.get('SubState', '?')})"
    active = shown.get("ActiveState") == "active" and shown.get("SubState") == "running"
    restarts = shown.get("NRestarts", "?")
    enabled = shown.get("UnitFileState") in ("enabled", "static", "indirect")
    here = f"journalctl -u {facts['service']} -n 100"
    return [
        _finding(
            f"unit {facts['service']}",
            "pass" if active else "fail",
            f"{state} since {shown.get('ActiveEnterTimestamp', '?')}, {restarts} restarts",
            None if active else here,
        ),
        _finding(
            "unit at boot",
            "pass" if enabled else "fail",
            shown.get("UnitFileState") or "unknown",
            None if enabled else f"systemctl enable {facts['service']}",
        ),
        _listening(facts["listeners"], facts["port"], here),
    ]


def _listening(listeners: str, port: int, hint: str) -> Finding:
    addresses = [
        local.rpartition(":")[0]
        for _state, _received, _sent, local, *_ in map(str.split, listeners.splitlines())
        if local.endswith(f":{port}")
    ]
    lan = [address for address in addresses if not LOOPBACK.match(address)]
    return _finding(
        f"port {port} on the LAN",
        "pass" if lan else "fail",
        f"listening on {', '.join(addresses)}" if addresses else "nobody listens",
        None if lan else hint,
    )


def seen(results: Iterable[Iterable[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Put together what the tasks registered about each model server."""
    return [
        {
            "name": before["item"],
            "before": before.get("json", {}),
            "after": after.get("json", {}),
            "peers": watch.get("stdout", ""),
            "log": "\n".join(
                line for line in log.get("stdout", "").splitlines() if line.startswith("[GIN]")
            ),
        }
        for before, after, watch, log in results
    ]


def backend_findings(
    hosts: Iterable[Mapping[str, Any]], gateway_addresses: Iterable[str]
) -> list[Finding]:
    """Judge by the model servers themselves where requests went, whatever the gateway says.

    Each host: `name`, `before` and `after` (answers of `/api/ps`, empty when it did not answer),
    `peers` (addresses with ports that were connected meanwhile), `log` (the unit's journal).
    """
    known = set(gateway_addresses)
    return [finding for host in hosts for finding in _backend(host, known)]


def _backend(host: Mapping[str, Any], gateway: set[str]) -> list[Finding]:
    name = host["name"]
    peers = [peer for peer in host["peers"].split() if _address(peer) in gateway]
    others = sorted({_address(peer) for peer in host["peers"].split()} - gateway)
    served = _served(host, gateway)
    beside = f"; also from {', '.join(others)}" if others else ""
    seen = f"{len(peers)} from the gateway{beside}"
    if peers or served["verdict"] != "pass":
        hint = "does the gateway have this host as a backend, with a model that was asked for?"
        verdict = "pass" if peers else "fail"
        connected = _finding(f"connections {name}", verdict, seen, None if peers else hint)
    else:
        connected = _finding(f"connections {name}", "not measured", "too short to be seen")
    return [connected, served]


def _address(peer: str) -> str:
    return peer.rpartition(":")[0].strip("[]").removeprefix("::ffff:").partition("%")[0]


def _served(host: Mapping[str, Any], gateway: set[str]) -> Finding:
    step = f"served {host['name']}"
    old, new = _expiries(host["before"]), _expiries(host["after"])
    if old is None or new is None:
        return _finding(step, "fail", "/api/ps does not answer", "is the service running there?")
    moved = sorted(model for model, moment in new.items() if moment != old.get(model))
    posts = _posts(host["log"], gateway)
    if posts:
        return _finding(step, "pass", f"{posts} requests of the gateway in its log")
    if moved:
        return _finding(step, "pass", f"used meanwhile: {', '.join(moved)}")
    if any(int(moment[:4]) >= YEAR_OF_NEVER for moment in new.values()):
        return _finding(step, "not measured", "it unloads never, so /api/ps cannot tell")
    hint = "has it the model, and is it a backend of the alias that overlapped?"
    return _finding(step, "fail", "no model was used meanwhile", hint)


def _expiries(answer: Mapping[str, Any]) -> dict[str, str] | None:
    """Return when each loaded model expires; serving a request moves it."""
    if "models" not in answer:
        return None
    return {str(model["name"]): str(model["expires_at"]) for model in answer["models"] or []}


def _posts(log: str, gateway: set[str]) -> int:
    """Count requests in Ollama's own log, `[GIN] time | status | took | client | POST "path"`."""
    rows = re.findall(r"\[GIN\][^|]*\|[^|]*\|[^|]*\|\s*(\S+)\s*\|\s*POST\s", log)
    return sum(client in gateway for client in rows)


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "hx_acceptance_host": host_findings,
            "hx_acceptance_seen": seen,
            "hx_acceptance_backends": backend_findings,
        }
