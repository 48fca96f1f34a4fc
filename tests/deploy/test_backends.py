"""The judgements about Ollama hosts, and the rules of the port checked by nft itself."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jinja2
import pytest
from tests.deploy.playing import ANSIBLE, filters

KNOWN = filters("hx_ollama_backend", "hx_backend")
TEMPLATES = ANSIBLE / "roles/hx_ollama_backend/templates"
DIGEST = "0fc371f209a0" + "b" * 52
OTHER = "f863ab5a3854" + "c" * 52
ENVIRONMENT = {"OLLAMA_HOST": "0.0.0.0:11434", "OLLAMA_NO_CLOUD": "1"}
WANTED: dict[str, Any] = {
    "service": "ollama.service",
    "version": "",
    "models": [{"name": "phi3:3.8b", "digest": DIGEST[:12]}],
    "pull": False,
    "environment": ENVIRONMENT,
}


def host(**more: Any) -> dict[str, Any]:
    facts = {
        "unit": True,
        "version": "0.33.0",
        "models": {"phi3:3.8b": DIGEST},
        "environment": ENVIRONMENT,
    }
    return facts | more


def judge(hosts: dict[str, Any], **more: Any) -> dict[str, tuple[str, str]]:
    found = KNOWN["hx_backend_findings"](hosts, "one", WANTED | more)
    return {f["check"]: (f["verdict"], f["found"]) for f in found}


def test_good_hosts_pass() -> None:
    told = judge({"one": host(), "two": host()}, version="0.33.0")
    assert {verdict for verdict, _ in told.values()} == {"pass"}
    assert set(told) == {"unit", "version", "environment", "model phi3:3.8b"}


@pytest.mark.parametrize(
    ("one", "two", "more", "check", "verdict", "found"),
    [
        ({"unit": False}, {}, {}, "unit", "fail", "no such unit"),
        ({}, {"version": "0.32.0"}, {}, "version", "fail", "one 0.33.0, two 0.32.0"),
        ({}, {}, {"version": "0.34.0"}, "version", "fail", "one 0.33.0, two 0.33.0"),
        ({"version": ""}, {}, {}, "version", "pending", "no answer"),
        ({"environment": {}}, {}, {}, "environment", "pending", "OLLAMA_HOST=, OLLAMA_NO_CLOUD="),
        ({"models": {}}, {}, {}, "model phi3:3.8b", "fail", "missing"),
        ({"models": {}}, {}, {"pull": True}, "model phi3:3.8b", "pending", "missing"),
        ({"models": {}, "version": ""}, {}, {}, "model phi3:3.8b", "pending", "nobody answered"),
        ({"models": {"phi3:3.8b": OTHER}}, {}, {}, "model phi3:3.8b", "fail", OTHER[:12]),
        (
            {"models": {"phi3:3.8b": OTHER}},
            {},
            {"pull": True},
            "model phi3:3.8b",
            "pending",
            OTHER[:12],
        ),
        (
            {},
            {"models": {"phi3:3.8b": OTHER}},
            {"models": [{"name": "phi3:3.8b", "digest": ""}]},
            "model phi3:3.8b",
            "fail",
            f"one {DIGEST[:12]}, two {OTHER[:12]}",
        ),
        ({}, {}, {"models": [{"name": "phi3"}]}, "model phi3:latest", "fail", "missing"),
        # A digest too short to mean anything is no pin.
        (
            {},
            {},
            {"models": [{"name": "phi3:3.8b", "digest": "0fc"}]},
            "model phi3:3.8b",
            "fail",
            DIGEST[:12],
        ),
    ],
)
def test_each_fault_is_told(
    one: dict[str, Any],
    two: dict[str, Any],
    more: dict[str, Any],
    check: str,
    verdict: str,
    found: str,
) -> None:
    assert judge({"one": host(**one), "two": host(**two)}, **more)[check] == (verdict, found)


def test_what_is_pulled_is_what_is_missing_or_another() -> None:
    models = [{"name": "phi3:3.8b", "digest": OTHER}, {"name": "nomic"}, {"name": "llama3:8b"}]
    hosts = {"one": host(models={"phi3:3.8b": DIGEST, "llama3:8b": OTHER})}
    assert KNOWN["hx_backend_to_pull"](hosts, "one", models) == ["phi3:3.8b", "nomic:latest"]


def test_an_empty_host_lists_null() -> None:
    assert KNOWN["hx_backend_installed"]({"models": None}) == {}
    listed = {"models": [{"name": "phi3:3.8b", "digest": f"sha256:{DIGEST}"}]}
    assert KNOWN["hx_backend_installed"](listed) == {"phi3:3.8b": DIGEST}


def test_the_environment_of_a_process() -> None:
    assert KNOWN["hx_backend_environment"]("A=1\0B=x=y\0\0junk\0") == {"A": "1", "B": "x=y"}


def test_addresses_are_sorted_by_protocol() -> None:
    results = [
        {"item": "gateway", "stdout": "198.51.100.5 STREAM gateway\n198.51.100.5 DGRAM\n"},
        {"item": "198.51.100.128/25", "stdout": ""},
        {"item": "v6", "stdout": "2001:db8::5 STREAM v6\nfe80::1%eth0 STREAM\n"},
        {"item": "no-such-name", "stdout": ""},
    ]
    assert KNOWN["hx_backend_addresses"](results) == {
        "v4": ["198.51.100.128/25", "198.51.100.5"],
        "v6": ["2001:db8::5", "fe80::1"],
    }


def proof(**more: Any) -> dict[str, str]:
    facts = {
        "prove": True,
        "firewall": True,
        "port": 11434,
        "client": "198.51.100.1",
        "addresses": {"v4": ["198.51.100.5"], "v6": []},
        "open_here": False,
        "gateways": {"hx-api-server": 200},
    }
    return {f["check"]: f["verdict"] for f in KNOWN["hx_backend_proofs"](facts | more)}


@pytest.mark.parametrize(
    ("more", "gateway", "others"),
    [
        ({}, "pass", "pass"),
        ({"open_here": True}, "pass", "fail"),
        ({"gateways": {"hx-api-server": -1}}, "fail", "pass"),
        ({"gateways": {}}, "fail", "pass"),
        ({"firewall": False}, "pass", "skipped"),
        ({"client": ""}, "pass", "skipped"),
        ({"client": "198.51.100.5", "open_here": True}, "pass", "skipped"),
    ],
)
def test_what_the_port_answers(more: dict[str, Any], gateway: str, others: str) -> None:
    told = proof(**more)
    assert told == {"port open to the gateway": gateway, "port closed to others": others}


def rendered(name: str, **variables: Any) -> str:
    # As Ansible's template module sets Jinja up.
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
        undefined=jinja2.StrictUndefined,
    )
    return env.get_template(name).render(**variables)


def rules(*v4: str, v6: tuple[str, ...] = ()) -> str:
    addresses = {"v4": list(v4), "v6": list(v6)}
    return rendered(
        "hx_ollama.nft.j2", _hx_ollama_backend_addresses=addresses, hx_ollama_backend_port=11434
    )


def in_a_network_of_its_own(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script as root of a new network namespace, which ends with it."""
    nft = shutil.which("nft", path=f"{os.environ['PATH']}:/usr/sbin")
    if os.geteuid() != 0 or not nft or not shutil.which("ip"):
        pytest.skip("needs root, nft and ip; the lab proves it on real hosts")
    return subprocess.run(
        ["unshare", "--net", "sh", "-euc", script],
        cwd=folder,
        env=os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin"},
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )


@pytest.mark.parametrize(
    ("v4", "v6"),
    [
        (("198.51.100.5",), ()),
        (("198.51.100.128/25", "198.51.100.5"), ("2001:db8::5",)),
        ((), ("2001:db8::/32",)),
    ],
)
def test_nft_takes_the_rules_and_other_tables_stay(
    tmp_path: Path, v4: tuple[str, ...], v6: tuple[str, ...]
) -> None:
    (tmp_path / "rules.nft").write_text(rules(*v4, v6=v6))
    script = "nft add table inet other; nft -c -f rules.nft; nft -f rules.nft; nft -f rules.nft"
    done = in_a_network_of_its_own(f"{script}; nft list tables", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["table inet other", "table inet hx_ollama"]


KNOCK = """
import socket, sys
try:
    socket.create_connection(("198.51.100.21", int(sys.argv[2])), 2, (sys.argv[1], 0)).close()
    print(sys.argv[1], sys.argv[2], "open")
except OSError as wrong:
    print(sys.argv[1], sys.argv[2], type(wrong).__name__)
"""
SERVE = """
import socket, time
listeners = [socket.create_server(("198.51.100.21", port)) for port in (11434, 8080)]
time.sleep(60)
"""
# Two network namespaces joined by a wire: a host with the rules, and clients with two addresses.
STAGE = """
trap 'kill $there ${server-}' EXIT
here=$(readlink /proc/self/ns/net)
unshare --net sleep 60 >hold.log 2>&1 & there=$!
until [ "$(readlink /proc/$there/ns/net)" != "$here" ]; do :; done
from() { nsenter --net=/proc/$there/ns/net "$@"; }
ip link set lo up
ip link add host type veth peer name client netns $there
ip addr add 198.51.100.21/24 dev host
ip link set host up
from ip addr add 198.51.100.5/24 dev client
from ip addr add 198.51.100.1/24 dev client
from ip link set client up
nft -f rules.nft
/usr/bin/python3 serve.py >serve.log 2>&1 & server=$!
until ss -Hltn | grep -q ':8080 '; do kill -0 $server; done
from /usr/bin/python3 knock.py 198.51.100.5 11434
from /usr/bin/python3 knock.py 198.51.100.1 11434
from /usr/bin/python3 knock.py 198.51.100.1 8080
/usr/bin/python3 knock.py 198.51.100.21 11434
nft delete table inet hx_ollama
from /usr/bin/python3 knock.py 198.51.100.1 11434
"""


def test_the_port_answers_the_gateway_only(tmp_path: Path) -> None:
    (tmp_path / "rules.nft").write_text(rules("198.51.100.5"))
    (tmp_path / "knock.py").write_text(KNOCK)
    (tmp_path / "serve.py").write_text(SERVE)
    done = in_a_network_of_its_own(STAGE, tmp_path)
    assert done.stdout.splitlines() == [
        "198.51.100.5 11434 open",
        "198.51.100.1 11434 ConnectionRefusedError",
        "198.51.100.1 8080 open",
        "198.51.100.21 11434 open",
        "198.51.100.1 11434 open",
    ], done.stderr


def test_the_drop_in_sorts_after_all_others_and_sets_each_variable() -> None:
    text = rendered("ollama.conf.j2", _hx_ollama_backend_environment=ENVIRONMENT)
    assert 'Environment="OLLAMA_HOST=0.0.0.0:11434"\n' in text
    tasks = (ANSIBLE / "roles/hx_ollama_backend/tasks/service.yml").read_text()
    assert ".d/zz-hx-gateway.conf" in tasks
    assert max("override.conf", "zz-hx-gateway.conf") == "zz-hx-gateway.conf"
