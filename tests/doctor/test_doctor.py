"""`arriero doctor` as it is called, before set-ups that are really broken, row by row."""

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cli.fake_gateway import KEY as FAKE_KEY
from tests.cli.fake_gateway import running
from tests.cli.processes import KEY, fleet, gateway, simulated_ollama, write_config
from typer.testing import CliRunner

from arriero.app.client import Endpoint
from arriero.app.clock import SystemClock
from arriero.app.doctor import looking
from arriero.cli.main import app

CLOSED = "http://127.0.0.1:9"
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def _a_host_without_a_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is installed on the machine that tests, the tests see what they set up."""
    monkeypatch.setattr(looking, "CONFIGS", ())
    monkeypatch.setattr(looking, "UNITS", ("arriero-no-such-unit.service",))


def doctor(*words: str, key: str | None = KEY, code: int = 1) -> Rows:
    environment = {"ARRIERO_API_KEY": key, "NO_COLOR": "1"}
    result = CliRunner().invoke(app, ["doctor", "--json", *words], env=environment)
    assert result.exit_code == code, f"{result.output}\n{result.exception}"
    assert key is None or key not in result.output
    found: Rows = {}
    for diagnosis in json.loads(result.stdout)["diagnoses"]:
        found.setdefault(diagnosis["row"], []).append(diagnosis)
    return found


def worst(rows: Rows, row: str) -> dict[str, Any]:
    order = ("problem", "warning", "unknown", "good")
    return min(rows[row], key=lambda diagnosis: order.index(diagnosis["severity"]))


def severities(rows: Rows) -> dict[str, str]:
    return {row: worst(rows, row)["severity"] for row in rows}


def test_a_gateway_that_is_well(tmp_path: Path) -> None:
    with fleet(tmp_path, {"phi3-3.8b": "phi3:3.8b"}) as (url, backends):
        asked = [word for backend in backends for word in ("--backend", backend)]
        rows = doctor("--url", url, *asked, code=0)
    found = severities(rows)
    assert found.pop("high p95 latency") == "unknown"  # Nobody has asked for a token yet.
    assert set(found.values()) == {"good"}, found
    assert {"not listening", "401", "no models", "5xx on one backend", "model not found"} <= set(
        found
    )


def test_a_wrong_key_and_none(tmp_path: Path) -> None:
    with fleet(tmp_path, {"phi3-3.8b": "phi3:3.8b"}, hosts=1) as (url, _):
        row = worst(doctor("--url", url, key="sk-mistyped-0123456789"), "401")
        assert row["severity"] == "problem"
        assert "HTTP 401" in row["symptom"]
        assert "rotated" in row["cause"]
        assert "master_key" in row["fix"]
        assert worst(doctor("--url", url, key=None, code=0), "401")["severity"] == "unknown"


def test_a_host_away(tmp_path: Path) -> None:
    with fleet(tmp_path, {"phi3-3.8b": "phi3:3.8b"}, hosts=1, dead=(CLOSED,)) as (url, backends):
        rows = doctor("--url", url, "--backend", backends[0], "--backend", CLOSED)
    symptoms = [row["symptom"] for row in rows["5xx on one backend"]]
    assert f"{CLOSED}: connection refused" in symptoms
    assert "llm02 is ejected" in symptoms
    assert not any("llm01" in symptom for symptom in symptoms)


def test_a_model_that_is_not_there_and_one_that_is_misspelt(tmp_path: Path) -> None:
    with simulated_ollama("phi3:3.8b-mini", "llama3:8b") as backend:
        models = {"phi": "phi3:3.8b-mnii", "gone": "qwen3:0.6b", "llama": "llama3:8b"}
        config = write_config(tmp_path, [backend], models)
        with gateway(config) as url:
            rows = doctor("--url", url)
            by_config = doctor("--url", CLOSED, "--config", str(config))
    for found in (rows, by_config):
        first, second = sorted(found["model not found"], key=lambda row: row["symptom"])
        assert first["symptom"].startswith("gone: ")
        assert first["evidence"] == []
        assert "ollama pull qwen3:0.6b" in first["fix"]
        assert second["symptom"].startswith("phi: ")
        assert second["evidence"] == ["near names there: phi3:3.8b-mini"]


def test_hosts_that_are_not_alike() -> None:
    one = simulated_ollama("llama3:8b,digest=" + "a" * 64)
    with one as here, simulated_ollama("llama3:8b,digest=" + "b" * 64) as there:
        rows = doctor("--url", CLOSED, "--backend", here, "--backend", there)
    row = worst(rows, "hosts not alike")
    assert row["symptom"] == "llama3:8b is not the same on all hosts"
    assert sorted(row["evidence"]) == sorted([f"{here}: {'a' * 12}", f"{there}: {'b' * 12}"])


def test_nothing_listens() -> None:
    row = worst(doctor("--url", CLOSED), "not listening")
    assert "connection refused" in row["symptom"]
    assert "no gateway is installed on this host" in row["cause"]
    row = worst(doctor("--url", "http://no-such-host.invalid:4000"), "not listening")
    assert "the name has no address here" in row["cause"]


def test_another_program_has_the_port(tmp_path: Path) -> None:
    config = write_config(tmp_path, [CLOSED], {"phi": "phi3:3.8b"})
    with deaf_program() as port:
        url = f"http://127.0.0.1:{port}"
        row = worst(doctor("--url", url, "--config", str(config)), "not listening")
    assert f"port {port} is held by a program" in row["cause"]
    (evidence,) = row["evidence"]
    assert evidence.startswith(f"127.0.0.1:{port} pid ")
    with running(faults={"not_arriero"}) as other:
        url = f"{other.url}/elsewhere"
        row = worst(doctor("--url", url, key=FAKE_KEY), "not listening")
    assert "answers, but not as a gateway" in row["symptom"]


@contextmanager
def deaf_program() -> Iterator[int]:
    """Take a port and hang up on whoever comes, as a program of another protocol does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def hang_up() -> None:
            while True:
                connection, _ = listener.accept()
                with connection:
                    if connection.recv(4) == b"stop":
                        return

        thread = threading.Thread(target=hang_up)
        thread.start()
        try:
            yield port
        finally:
            with socket.create_connection(("127.0.0.1", port)) as last:
                last.sendall(b"stop")
            thread.join()


def test_a_file_with_mistakes_is_why_nothing_listens(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("backends: [{name: a, url: http://a:11434}]\nmodles: []\n")
    rows = doctor("--url", CLOSED, "--config", str(config))
    row = worst(rows, "not listening")
    assert row["cause"] == "the configuration cannot be run"
    assert any("config.yaml:2:" in line and "modles" in line for line in row["evidence"])
    assert worst(rows, "configuration")["severity"] == "problem"


def test_a_file_that_is_not_what_runs(tmp_path: Path) -> None:
    with simulated_ollama("phi3:3.8b") as backend:
        config = write_config(tmp_path, [backend], {"phi": "phi3:3.8b"})
        with gateway(config) as url:
            config.chmod(0o600)
            assert (
                worst(doctor("--url", url, "--config", str(config), code=0), "no models")[
                    "severity"
                ]
                == "good"
            )
            write_config(tmp_path, [backend], {"phi": "phi3:3.8b", "new": "phi3:3.8b"})
            config.chmod(0o600)
            row = worst(doctor("--url", url, "--config", str(config), code=0), "no models")
    assert row["severity"] == "warning"
    assert row["evidence"] == ["not served: new"]


def test_a_key_that_everybody_can_read_or_guess(tmp_path: Path) -> None:
    config = write_config(tmp_path, [CLOSED], {"phi": "phi3:3.8b"})
    config.chmod(0o644)
    row = worst(doctor("--url", CLOSED, "--config", str(config)), "configuration")
    assert row["symptom"] == "everybody on this host can read the master key"
    config.write_text(config.read_text().replace(KEY, "sk-1234"))
    row = worst(doctor("--url", CLOSED, "--config", str(config)), "master key")
    assert row["symptom"] == "the master key is publicly known"


@pytest.mark.parametrize(
    ("faults", "row", "symptom"),
    [
        ({"not_arriero", "no_401"}, "401", "answered with HTTP 500, where 401 is right"),
        ({"open"}, "401", "the models are listed to anybody"),
        ({"not_ready"}, "no models", "not ready: HTTP 503"),
        ({"a_ejected"}, "5xx on one backend", "a is ejected"),
    ],
)
def test_what_a_gateway_shows_from_outside(faults: set[str], row: str, symptom: str) -> None:
    with running(faults=faults) as fake:
        code = 0 if "no_401" in faults else 1
        found = worst(doctor("--url", fake.url, key=FAKE_KEY, code=code), row)
    assert symptom in found["symptom"]


def test_a_litellm_without_models_but_with_green_health(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    spec = Path(__file__).parents[1] / "fixtures/config/spec-rendered.yaml"
    config.write_text(spec.read_text())
    config.chmod(0o600)
    with running(aliases=[], faults={"not_arriero"}) as fake:
        row = worst(doctor("--url", fake.url, "--config", str(config), key=FAKE_KEY), "no models")
    assert row["symptom"] == "the list of models is empty, though health is green"
    assert "LiteLLM leaves out models without a provider" in row["cause"]
    assert "phi3:3.8b-mini-128k-instruct-q8_0" in row["evidence"][0]


def test_slow_answers_are_told_with_their_reason(tmp_path: Path) -> None:
    slow = "llama3:8b,load_s=0.6,vram_share=0.5"
    with simulated_ollama(slow) as backend:
        config = write_config(tmp_path, [backend], {"llama": "llama3:8b"})
        with gateway(config) as url:
            ask(url)
            calm = doctor("--url", url, "--latency-max", "100", code=0)
            rows = doctor("--url", url, "--latency-max", "0.2")
    assert worst(calm, "high p95 latency")["severity"] == "good"
    row = worst(rows, "high p95 latency")
    assert row["symptom"] == "people wait long for the first token"
    assert row["evidence"][0].startswith("slowest 5 % of first tokens: up to ")


def ask(url: str) -> None:
    body = {"model": "llama", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    answer = Endpoint(url, SystemClock()).call("POST", "/v1/chat/completions", key=KEY, body=body)
    assert answer.status == 200, answer.body


def self_signed(folder: Path) -> tuple[Path, Path]:
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "5", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return key, certificate


def test_a_certificate_that_nobody_trusts(tmp_path: Path) -> None:
    with tls_server(*self_signed(tmp_path)) as port:
        row = worst(doctor("--url", f"https://127.0.0.1:{port}"), "certificate")
    assert "self" in row["symptom"]
    assert row["severity"] == "problem"


def test_a_certificate_that_soon_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with tls_server(key, certificate) as port:
        row = worst(doctor("--url", f"https://127.0.0.1:{port}"), "certificate")
    assert row["severity"] == "warning"
    assert row["symptom"] == "the certificate expires in 5 days"


@contextmanager
def tls_server(key: Path, certificate: Path) -> Iterator[int]:
    """Shake hands, and hang up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        stop = threading.Event()

        def shake() -> None:
            while not stop.is_set():
                connection, _ = listener.accept()
                try:
                    with context.wrap_socket(connection, server_side=True) as wrapped:
                        wrapped.recv(1)
                except OSError:
                    connection.close()

        thread = threading.Thread(target=shake)
        thread.start()
        try:
            yield port
        finally:
            stop.set()
            socket.create_connection(("127.0.0.1", port)).close()
            thread.join()


def test_words_that_are_wrong() -> None:
    result = CliRunner().invoke(app, ["doctor", "--url", "ftp://x"])
    assert result.exit_code == 2
    assert "hint: --url" in result.stderr


def test_for_people_the_worst_comes_first() -> None:
    result = CliRunner().invoke(app, ["doctor", "--url", CLOSED], env={"NO_COLOR": "1"})
    assert result.exit_code == 1
    assert result.stdout.startswith("problem  not listening: ")
    assert "\n         fix: " in result.stdout
