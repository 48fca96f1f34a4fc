"""What stops a deployment before anything is changed: what was found, and how to mend it."""

import copy
from typing import Any

import pytest
from tests.deploy.playing import filters

KNOWN = filters("hx_litellm_proxy", "hx_gateway")
LLM01, LLM02 = "http://llm01:11434", "http://llm02:11434"
GOOD_KEY = "sk-0123456789abcdef0123456789abcdef"
WANTED: dict[str, Any] = {
    "engine": "arriero",
    "version": "0.1.0",
    "refused": ["1.82.7", "1.82.8"],
    "minimum": "1.84.0",
    "release": "0.1.0-0123abcd",
    "wheels": "/wheels/arriero-0.1.0",
    "backends": [LLM01, LLM02],
    "models": [{"name": "llama", "model": "llama3:8b"}],
    "base_url": "http://gateway:4000",
    "port": 4000,
    "python": "python3.11",
    "disk_free_min_mb": "256",
    "required": "all",
}
SEEN: dict[str, Any] = {
    "python": {"version": "3.11.2", "venv": True},
    "systemd": 252,
    "disk_free_mb": 9000,
    "unit": "inactive",
    "socket": "inactive",
    "listeners": "",
    "backends": {url: {"error": "", "models": ["llama3:8b"]} for url in (LLM01, LLM02)},
}
PROCESS: dict[str, Any] = {
    "uid": 999,
    "capabilities": {"CapEff": "0000000000000000", "CapBnd": "0000000000000000"},
    "no_new_privileges": True,
    "seccomp": 2,
    "writable": [],
    "home": [],
    "devices": [],
    "command": "arriero serve --config /etc/litellm/config.yaml",
    "exposure": 1.1,
}
Findings = list[dict[str, str]]


def failed(findings: Findings) -> dict[str, str]:
    """Return what was found wrong, by check; every failure must say how to mend it."""
    assert all(f["mend"] and f["expected"] and f["found"] for f in findings)
    return {f["check"]: f["found"] for f in findings if f["verdict"] == "fail"}


def variables(**changed: Any) -> dict[str, str]:
    return failed(KNOWN["hx_gateway_variables"](WANTED | changed))


def host(seen: dict[str, Any] | None = None, **changed: Any) -> dict[str, str]:
    return failed(KNOWN["hx_gateway_host"](SEEN | (seen or {}), WANTED | changed))


def test_a_good_deployment_is_let_through() -> None:
    assert variables() == {}
    assert host() == {}
    assert failed(KNOWN["hx_gateway_key"](GOOD_KEY, "$ANSIBLE_VAULT;")) == {}
    assert failed(KNOWN["hx_gateway_confinement"](PROCESS, 1.5, GOOD_KEY, "listening")) == {}


@pytest.mark.parametrize(
    ("changed", "check", "found"),
    [
        ({"engine": "nginx"}, "engine", "nginx"),
        ({"engine": ""}, "engine", "nothing"),
        ({"version": ""}, "engine", "version none"),
        ({"release": ""}, "wheelhouse", "no release at /wheels/arriero-0.1.0"),
        ({"release": "0.2.0-0123abcd"}, "wheelhouse", "0.2.0-0123abcd, which is another version"),
        ({"backends": []}, "backends named", "none"),
        ({"backends": ["llm01:11434"]}, "backends named", "'llm01:11434', which is no address"),
        ({"backends": [f"{LLM01}/v1"]}, "backends named", f"'{LLM01}/v1', which is no address"),
        ({"backends": [LLM01, LLM01]}, "backends named", "one of them twice"),
        ({"models": []}, "aliases named", "none"),
        ({"models": [{"name": "a"}]}, "aliases named", "{'name': 'a'}, without a name or a model"),
        (
            {"models": [{"name": "a", "model": "m", "provider": "openai"}]},
            "aliases named",
            "a of openai",
        ),
        ({"models": [{"name": "a", "model": "m"}] * 2}, "aliases named", "one name twice"),
        ({"port": 4001}, "base URL", "http://gateway:4000, but the service listens on 4001"),
    ],
)
def test_variables_that_are_wrong(changed: dict[str, Any], check: str, found: str) -> None:
    assert variables(**changed)[check] == found


@pytest.mark.parametrize(
    ("version", "refused"),
    [
        ("1.82.7", True),
        ("1.82.8", True),
        ("1.81.16", True),  # CVE-2026-42208
        ("1.83.14", True),  # CVE-2026-49468
        ("1.84.0", False),
        ("1.106.2", False),
    ],
)
def test_releases_of_litellm(version: str, *, refused: bool) -> None:
    problems = variables(engine="litellm", version=version, release=f"{version}-0123abcd")
    assert ("engine" in problems) == refused


def test_the_implied_port_of_an_address_counts() -> None:
    assert variables(base_url="http://gateway", port=80) == {}
    assert "base URL" in variables(base_url="https://gateway/", port=80)


@pytest.mark.parametrize(
    ("key", "head", "found"),
    [
        (None, None, {"vault": "no file", "master key": "no litellm_master_key"}),
        ("", "$ANSIBLE_VAULT;", {"master key": "no litellm_master_key"}),
        (GOOD_KEY, "litellm_master_", {"vault": "plain text"}),
        ("sk-1234", "$ANSIBLE_VAULT;", {"master key": "7 characters"}),
        ("sk-REDACT_LOCAL_MASTER", "$ANSIBLE_VAULT;", {"master key": "a placeholder"}),
        (
            "sk-REPLACE-WITH-openssl-rand-hex-24",
            "$ANSIBLE_VAULT;",
            {"master key": "a placeholder"},
        ),
        (
            f"{GOOD_KEY} {GOOD_KEY}",
            "$ANSIBLE_VAULT;",
            {"master key": "characters that an HTTP header cannot carry"},
        ),
    ],
)
def test_keys_and_vaults(key: str | None, head: str | None, found: dict[str, str]) -> None:
    findings = KNOWN["hx_gateway_key"](key, head)
    assert failed(findings) == found
    assert not key or key not in str(findings)


def test_a_key_from_elsewhere_needs_no_vault() -> None:
    assert failed(KNOWN["hx_gateway_key"](GOOD_KEY, None)) == {}


@pytest.mark.parametrize(
    ("seen", "check", "found"),
    [
        ({"python": {"version": "", "venv": False}}, "Python", "not installed"),
        ({"python": {"version": "3.10.12", "venv": True}}, "Python", "3.10.12"),
        ({"python": {"version": "3.11.2", "venv": False}}, "Python", "3.11.2 without venv"),
        ({"systemd": 249}, "systemd", "249"),
        ({"systemd": 0}, "systemd", "none"),
        ({"disk_free_mb": 255}, "disk", "255 MB"),
        ({"listeners": "LISTEN 0.0.0.0:4000 nginx"}, "port", "LISTEN 0.0.0.0:4000 nginx"),
    ],
)
def test_hosts_that_are_not_fit(seen: dict[str, Any], check: str, found: str) -> None:
    assert host(seen) == {check: found}


def test_a_disk_with_just_enough_room_is_enough() -> None:
    assert host({"disk_free_mb": 256}) == {}


@pytest.mark.parametrize("ours", ["unit", "socket"])
def test_our_own_port_is_no_obstacle(ours: str) -> None:
    assert host({"listeners": "LISTEN arriero", ours: "active"}) == {}


def backends(**seen: Any) -> dict[str, Any]:
    found = copy.deepcopy(SEEN["backends"])
    found[LLM02] |= seen
    return {"backends": found}


def test_a_dead_backend_stops() -> None:
    seen = backends(error="[Errno 111] Connection refused", models=[])
    assert host(seen) == {f"backend {LLM02}": "[Errno 111] Connection refused"}


def test_a_backend_without_the_model_stops_and_says_which() -> None:
    seen = backends(models=["phi3:latest"])
    (finding,) = [
        f for f in KNOWN["hx_gateway_host"](SEEN | seen, WANTED) if f["verdict"] == "fail"
    ]
    assert finding["found"] == "without llama3:8b"
    assert "ollama pull llama3:8b" in finding["mend"]


def test_a_model_without_a_tag_is_the_latest() -> None:
    models = [{"name": "a", "model": "hf.co/org/model"}]
    seen = {"backends": {LLM01: {"error": "", "models": ["hf.co/org/model:latest"]}}}
    assert host(seen, models=models) == {}


def test_any_backend_is_enough_when_it_is_said_so() -> None:
    one_dead = backends(error="timed out", models=[])
    assert host(one_dead, required="any") == {}
    all_dead = {"backends": {url: {"error": "timed out", "models": []} for url in (LLM01, LLM02)}}
    assert len(host(all_dead, required="any")) == 2


@pytest.mark.parametrize(
    ("seen", "check", "found"),
    [
        ({"uid": 0}, "user", "root"),
        # A unit whose set is misspelt keeps all of it, and systemd says nothing.
        ({"capabilities": {"CapEff": "0" * 16, "CapBnd": "1ffffffffff"}}, "capabilities", "CapBnd"),
        ({"no_new_privileges": False}, "new privileges", "possible"),
        ({"seccomp": 0}, "system calls", "all"),
        ({"writable": ["/etc/litellm"]}, "file system", "/etc/litellm"),
        ({"home": ["agent0"]}, "homes", "agent0"),
        ({"devices": ["sda"]}, "devices", "sda"),
        ({"command": f"litellm --key {GOOD_KEY}"}, "master key", "the command line"),
        ({"exposure": 1.6}, "exposure", "1.6"),
    ],
)
def test_processes_that_are_not_confined(seen: dict[str, Any], check: str, found: str) -> None:
    findings = KNOWN["hx_gateway_confinement"](PROCESS | seen, 1.5, GOOD_KEY, "listening")
    assert failed(findings) == {check: found}
    assert GOOD_KEY not in str(findings)


def test_a_place_to_write_to_is_the_only_one() -> None:
    """Virtual keys are kept in a folder of the service's own."""
    judge, place = KNOWN["hx_gateway_confinement"], "/var/lib/arriero"
    rest = (1.5, GOOD_KEY, "listening", [place])
    assert failed(judge(PROCESS | {"writable": [place]}, *rest)) == {}
    wider = judge(PROCESS | {"writable": ["/etc", place]}, *rest)
    assert failed(wider) == {"file system": "/etc"}


def test_a_key_in_the_journal_is_found() -> None:
    findings = KNOWN["hx_gateway_confinement"](PROCESS, 1.5, GOOD_KEY, f"Bearer {GOOD_KEY}")
    assert failed(findings) == {"master key": "the journal"}


def test_the_oldest_go_first_and_what_runs_stays() -> None:
    files = [{"path": f"/opt/arriero/{name}", "mtime": at} for at, name in enumerate("abcde")]
    assert KNOWN["hx_gateway_prunable"](files, 2, ["a"]) == ["/opt/arriero/c", "/opt/arriero/b"]
    assert KNOWN["hx_gateway_prunable"](files, 9) == []


def test_backups_are_as_old_as_their_names_say() -> None:
    """A backup keeps the time of the file's last change, and process ids start anew."""
    old = {"path": "/etc/litellm/config.yaml.9999.2026-11-22@23:59:59~", "mtime": 9.0}
    new = {"path": "/etc/litellm/config.yaml.17.2026-11-23@00:00:01~", "mtime": 1.0}
    assert KNOWN["hx_gateway_backups"]([old, new]) == [new["path"], old["path"]]
