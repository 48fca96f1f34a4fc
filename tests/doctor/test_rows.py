"""The rows as functions of facts, where a test cannot easily break the real thing."""

from collections.abc import Iterator

import msgspec
import pytest

from arriero.app.client import Exchange
from arriero.app.doctor import fleet_rows, gateway_rows, host_rows
from arriero.app.doctor.diagnosis import Diagnosis, Severity, exit_code, good, unknown
from arriero.app.doctor.facts import (
    Backend,
    ConfigFile,
    Facts,
    File,
    Gateway,
    Host,
    Listener,
    Unit,
)
from arriero.app.exposition import Readings, read
from arriero.wire.status_page import BackendStatus, ModelStatus, StatusPage, TargetStatus

FILE = File(
    path="/etc/litellm/config.yaml", mode=0o640, owner="root", group="litellm", readable=True
)
GOOD = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "User": "litellm"}


def exchange(status: int = 200, body: bytes = b"{}", error: str | None = None) -> Exchange:
    return Exchange(method="GET", path="/x", sent_headers={}, status=status, body=body, error=error)


def silent(error: str = "connection refused", *, here: bool = True) -> Gateway:
    return Gateway(url="http://gw:4000", port=4000, here=here, alive=exchange(0, error=error))


def speaking(**more: object) -> Gateway:
    gateway = Gateway(url="http://gw:4000", port=4000, here=False, alive=exchange())
    return msgspec.structs.replace(gateway, **more)


def page(*backends: BackendStatus, models: tuple[ModelStatus, ...] = ()) -> StatusPage:
    return StatusPage(
        version="0", config_digest="d", uptime_s=1, ready=True, backends=backends, models=models
    )


def backend(name: str, **more: object) -> BackendStatus:
    status = BackendStatus(name=name, kind="ollama", state="available", in_flight=0, served=0)
    return msgspec.structs.replace(status, **more)


def unit(**properties: str) -> Unit:
    return Unit(name="litellm.service", properties=GOOD | properties, journal=("one", "two"))


def only(found: Iterator[Diagnosis]) -> Diagnosis:
    (one,) = found
    return one


def listening(host: Host, gateway: Gateway | None = None) -> Diagnosis:
    return only(gateway_rows.not_listening(Facts(gateway=gateway or silent(), host=host)))


@pytest.mark.parametrize(
    ("host", "cause", "fix"),
    [
        (
            Host(unit=unit(), config=ConfigFile(error="cannot read it: no such file")),
            "the configuration cannot be run",
            "arriero check",
        ),
        (
            Host(
                unit=unit(),
                config=ConfigFile(file=msgspec.structs.replace(FILE, readable=False), port=4000),
            ),
            "may not read /etc/litellm/config.yaml",
            "chmod 0640",
        ),
        (
            Host(unit=unit(), listeners=(Listener(address="0.0.0.0:4000", pid=7, command="nc"),)),
            "port 4000 is held",
            "stop that program",
        ),
        (Host(unit=Unit(name="x.service", properties={})), "x.service is not installed", "apply"),
        (Host(unit=unit(), config=ConfigFile(port=4001)), "says port 4001", "--url"),
        (
            Host(unit=unit(ActiveState="failed", SubState="failed", ExecMainStatus="203")),
            "litellm.service is failed (failed)",
            "ProtectHome=",
        ),
        (
            Host(unit=unit(ActiveState="inactive", SubState="dead")),
            "litellm.service is inactive (dead)",
            "systemctl enable --now litellm.service",
        ),
        (
            Host(unit=unit(ActiveState="inactive", NeedDaemonReload="yes")),
            "is inactive",
            "systemctl daemon-reload",
        ),
        (
            Host(unit=unit(ActiveState="activating", SubState="auto-restart", NRestarts="9")),
            "activating (auto-restart)",
            "journalctl -u litellm.service",
        ),
    ],
)
def test_why_nothing_listens_on_this_host(host: Host, cause: str, fix: str) -> None:
    found = listening(host)
    assert found.severity is Severity.PROBLEM
    assert cause in found.cause
    assert fix in found.fix


def test_the_journal_is_the_evidence_of_a_unit_that_fails() -> None:
    failed = unit(ActiveState="failed", Result="exit-code", ExecMainStatus="1", NRestarts="5")
    evidence = listening(Host(unit=failed)).evidence
    assert evidence == ("Result=exit-code ExecMainStatus=1 NRestarts=5", "one", "two")


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        ("connection refused", "on its loopback address only"),
        ("no answer in time", "a firewall drops"),
        ("[Errno -2] Name or service not known", "no address here"),
    ],
)
def test_why_nothing_answers_from_afar(error: str, cause: str) -> None:
    gateway = silent(error, here=False)
    assert cause in only(gateway_rows.not_listening(Facts(gateway=gateway))).cause


def test_a_service_that_may_not_read_its_file() -> None:
    config = ConfigFile(
        file=msgspec.structs.replace(FILE, group="root", readable=False), digest="d"
    )
    facts = Facts(host=Host(unit=unit(), config=config))
    found = only(host_rows.configuration(facts))
    assert found.symptom == "litellm may not read /etc/litellm/config.yaml"
    assert found.evidence == ("/etc/litellm/config.yaml is 0640 root:root",)


def test_a_file_that_litellm_would_read_otherwise() -> None:
    config = ConfigFile(file=FILE, digest="d", unprefixed=("phi3:3.8b",))
    found = only(host_rows.configuration(Facts(host=Host(config=config))))
    assert found.severity is Severity.WARNING
    assert "ollama_chat/" in found.fix


def test_a_unit_that_is_restarted_again_and_again() -> None:
    found = only(host_rows.unit(Facts(host=Host(unit=unit(NRestarts="3")))))
    assert found.symptom == "litellm.service was restarted 3 times by systemd"
    assert found.evidence == ("one", "two")
    found = only(host_rows.unit(Facts(host=Host(unit=unit(NRestarts="0")))))
    assert found.severity is Severity.GOOD


def test_clocks_that_differ() -> None:
    hosts = (Backend(url="http://a", skew_s=0.4), Backend(url="http://b", skew_s=-61.0))
    found = only(gateway_rows.clocks(Facts(backends=hosts)))
    assert found.evidence == ("http://b: -61 s",)
    facts = Facts(gateway=speaking(skew_s=5.0), host=Host(clock_synchronised=False))
    assert only(gateway_rows.clocks(facts)).evidence == ("NTPSynchronized=no",)
    facts = Facts(gateway=speaking(skew_s=5.0), host=Host(clock_synchronised=True))
    assert only(gateway_rows.clocks(facts)).severity is Severity.GOOD


def test_an_ollama_that_answers_anybody() -> None:
    hosts = (Backend(url="http://a:11434", version="1"), Backend(url="http://b", error="refused"))
    found = only(fleet_rows.open_port(Facts(gateway=speaking(), backends=hosts)))
    assert found.symptom == "http://a:11434 answer this host, which is not the gateway"
    facts = Facts(gateway=speaking(), backends=hosts[1:])
    assert only(fleet_rows.open_port(facts)).severity is Severity.GOOD
    assert not list(fleet_rows.open_port(Facts(gateway=speaking(here=True), backends=hosts)))


def test_versions_that_differ() -> None:
    hosts = (Backend(url="http://a", version="0.33.0"), Backend(url="http://b", version="0.34.1"))
    found = only(fleet_rows.drift(Facts(backends=hosts)))
    assert found.evidence == ("http://a: 0.33.0", "http://b: 0.34.1")
    status = page(backend("a", version="1"), backend("b", version="2"))
    assert only(fleet_rows.drift(Facts(gateway=speaking(page=status)))).evidence == ("a: 1", "b: 2")


METRICS = """\
arriero_build_info{version="0"} 1
arriero_time_to_first_token_seconds_bucket{alias="x",le="1.0"} 90
arriero_time_to_first_token_seconds_bucket{alias="x",le="30.0"} 99
arriero_time_to_first_token_seconds_bucket{alias="x",le="+Inf"} 100
"""
HALF_IN_THE_GPU = """\
arriero_model_memory_bytes{backend="a",kind="total",model="m"} 8
arriero_model_memory_bytes{backend="a",kind="vram",model="m"} 4
"""
FAILURES = """\
arriero_backend_failures_total{backend="a",reason="no_first_token"} 3
arriero_backend_failures_total{backend="a",reason="refused"} 7
arriero_backend_failures_total{backend="b",reason="refused"} 1
"""


def readings(*parts: str) -> Readings:
    found = read("".join(parts))
    assert found
    return found


MODEL = ModelStatus(name="x", targets=(TargetStatus(backend="a", model="m", available=True),))


@pytest.mark.parametrize(
    ("text", "status", "cause"),
    [
        (METRICS + HALF_IN_THE_GPU, page(backend("a")), "does not fit into its GPU"),
        (METRICS, page(backend("a", in_flight=2)), "every host is busy"),
        (METRICS, page(backend("a"), models=(MODEL,)), "not in memory"),
        (METRICS, page(backend("a", loaded=("m",)), models=(MODEL,)), "now it is calm"),
        (METRICS, None, "now it is calm"),
    ],
)
def test_why_people_wait(text: str, status: StatusPage | None, cause: str) -> None:
    gateway = speaking(readings=readings(text), page=status)
    found = only(fleet_rows.latency(Facts(gateway=gateway, latency_max_s=10)))
    assert found.severity is Severity.PROBLEM
    assert cause in found.cause
    assert found.evidence[0] == "slowest 5 % of first tokens: up to 30 s"


def test_a_host_that_takes_long_to_tell_its_version() -> None:
    host = Backend(url="http://a", rtts_s=(0.9, 0.3, 0.1))
    found = only(fleet_rows.latency(Facts(backends=(host,))))
    assert found.symptom == "http://a takes 0.30 s to tell its version"
    assert not list(fleet_rows.latency(Facts(backends=(Backend(url="http://a", rtts_s=(0.1,)),))))


def test_a_host_that_is_wedged_behind_green_lists() -> None:
    status = page(backend("a", state="ejected"), backend("b"))
    gateway = speaking(page=status, readings=readings(METRICS, FAILURES))
    hosts = (Backend(url="http://a", version="1"), Backend(url="http://b", version="1"))
    found = only(fleet_rows.backends(Facts(gateway=gateway, backends=hosts)))
    assert "wedged rather than down" in found.cause
    assert found.evidence == ("failures: refused 7, no_first_token 3",)


def test_a_host_that_is_back_and_was_not_tried_yet_is_no_problem() -> None:
    targets = tuple(TargetStatus(backend=name, model="m", available=True) for name in "ab")
    status = page(
        backend("a", state="ejected"),
        backend("b"),
        models=(ModelStatus(name="m", targets=targets),),
    )
    gateway = speaking(page=status, readings=readings(METRICS, FAILURES))
    hosts = (Backend(url="http://a", version="1"), Backend(url="http://b", version="1"))
    found = only(fleet_rows.backends(Facts(gateway=gateway, backends=hosts)))
    assert found.severity is Severity.WARNING
    assert found.symptom == "a was ejected, and is about to be tried again"


def test_the_exit_code() -> None:
    assert exit_code([]) == 3
    assert exit_code([unknown("x", "no key")]) == 3
    assert exit_code([unknown("x", "no key"), good("y", "fine")]) == 0
    bad = Diagnosis(row="x", severity=Severity.PROBLEM, symptom="s")
    assert exit_code([good("y", "fine"), bad]) == 1
