"""The specification's troubleshooting table on real hosts: each trouble made, told, and mended."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lab.hosts import API
from lab.problems import LabProblem, expect
from lab.scene import Scene

DOCTOR = "/opt/arriero/current/bin/arriero doctor --json --url http://127.0.0.1:4000"
CONFIG = "/etc/litellm/config.yaml"
KEPT = "/var/tmp/config.yaml"
NO_MODEL = "no-such-model:1b"
WELL_TIMEOUT_S = 90.0


def doctor(scene: Scene) -> str:
    """Let doctor look at a gateway that is well, and at four that are not."""
    _expect_well(scene)
    told = [
        _told(scene, "401", "rotated", key="sk-mistyped-0123456789abcdef"),
        _missing_model(scene),
        _host_away(scene),
        _not_listening(scene),
    ]
    _expect_well(scene)
    return f"well; then {', '.join(told)}; then well again"


def _missing_model(scene: Scene) -> str:
    scene.on(
        API,
        f"cp -p {CONFIG} {KEPT}"
        f" && sed -i 's/\\(model: .ollama_chat.\\)[^\"]*/\\1{NO_MODEL}/' {CONFIG}"
        " && systemctl reload litellm.service",
    )
    try:
        return _told(scene, "model not found", NO_MODEL)
    finally:
        scene.on(API, f"mv {KEPT} {CONFIG} && systemctl reload litellm.service")


def _host_away(scene: Scene) -> str:
    victim = scene.backends[0]
    with _stopped(scene, victim.name, "ollama.service"):
        return _told(scene, "5xx on one backend", victim.fqdn)


def _not_listening(scene: Scene) -> str:
    with _stopped(scene, API.name, "litellm.socket litellm.service"):
        return _told(scene, "not listening", "stopped")


@contextmanager
def _stopped(scene: Scene, name: str, units: str) -> Iterator[None]:
    (host,) = [host for host in scene.stage.hosts if host.name == name]
    scene.on(host, f"systemctl stop {units}")
    try:
        yield
    finally:
        scene.on(host, f"systemctl start {units}")


def _expect_well(scene: Scene) -> None:
    """Expect no problem, once a host that was stopped before may be tried again."""
    deadline = time.monotonic() + WELL_TIMEOUT_S
    while True:
        rows = _rows(scene)
        wrong = [row for row in rows if row["severity"] == "problem"]
        if rows and not wrong:
            return
        if time.monotonic() > deadline:
            raise LabProblem(f"doctor finds problems: {wrong or 'nothing at all'}")
        time.sleep(1)


def _told(scene: Scene, row: str, words: str, key: str = "") -> str:
    """Expect a problem of this row with these words in what doctor says of it; return the row."""
    rows = _rows(scene, key)
    problems = [one for one in rows if (one["row"], one["severity"]) == (row, "problem")]
    said = json.dumps(problems)
    expect(words in said, f"doctor does not tell {row} with {words!r}: {json.dumps(rows)}")
    return row


def _rows(scene: Scene, key: str = "") -> list[dict[str, str]]:
    told = f"read -r ARRIERO_API_KEY; export ARRIERO_API_KEY; {DOCTOR} 2>/dev/null"
    secret = f"{key or scene.control.master_key}\n"
    done = scene.stage.ssh.run(API, told, check=False, stdin=secret)
    try:
        rows: list[dict[str, str]] = json.loads(done.output)["diagnoses"]
    except (ValueError, LookupError):
        raise LabProblem(f"doctor gave no diagnoses:\n{done.output[:1500]}") from None
    return rows
