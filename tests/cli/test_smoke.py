"""`arriero smoke` and `arriero status` from the command line, against a gateway with faults."""

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.fake_gateway import KEY, Gateway, running
from typer.testing import CliRunner, Result

from arriero.cli.main import app

Smoke = Callable[..., Result]


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with running() as gateway:
        yield gateway


def invoke(*words: str, key: str | None = KEY) -> Result:
    env = {"ARRIERO_API_KEY": key, "ARRIERO_URL": None, "NO_COLOR": "1"}
    return CliRunner().invoke(app, list(words), env=env)


def smoke(gateway: Gateway, *words: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Run the acceptance; return its exit code and the findings by step."""
    result = invoke("smoke", "--url", gateway.url, "--json", "--requests", "4", *words)
    found = json.loads(result.stdout)
    return result.exit_code, {finding["step"]: finding for finding in found["findings"]}


def verdicts(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {step: finding["verdict"] for step, finding in found.items()}


def test_a_good_gateway_is_a_go(gateway: Gateway) -> None:
    code, found = smoke(gateway, "--backend", gateway.url)
    assert verdicts(found) == dict.fromkeys(
        [
            "liveliness",
            "readiness",
            "no key",
            "wrong key",
            "models",
            "chat phi3",
            "stream phi3",
            "embedding nomic-embed-text",
            "unknown model",
            "overlap phi3",
            "fan-out phi3",
            "backend's word",
            "in flight after",
            "backends",
            "metrics",
        ],
        "pass",
    )
    assert code == 0
    assert found["fan-out phi3"]["detail"] == "a 2, b 2"


@pytest.mark.parametrize(
    ("fault", "step", "words"),
    [
        ("not_ready", "readiness", "HTTP 503"),
        ("open", "no key", "the request was answered"),
        ("open", "wrong key", "the request was answered"),
        ("no_401", "no key", "HTTP 500, where 401 is right"),
        ("plain_401", "wrong key", "not in OpenAI's error shape"),
        ("b_ejected", "backends", "b ejected"),
        ("shows_model", "chat phi3", "answers as 'phi3:3.8b' instead of the alias"),
        ("shows_model", "stream phi3", "instead of the alias"),
        ("empty", "chat phi3", "an empty answer"),
        ("broken_off", "chat phi3", "the answer broke off"),
        ("chat_fails", "chat phi3", "HTTP 503: every backend is down"),
        ("chat_fails", "overlap phi3", "4 of 4 failed: HTTP 503: every backend is down"),
        ("no_done", "stream phi3", "the last event is not [DONE]"),
        ("many_ids", "stream phi3", "different ids in one answer"),
        ("no_usage", "stream phi3", "no usage"),
        ("dies_in_stream", "stream phi3", "after 2 chunks: the backend died"),
        ("zeros", "embedding nomic-embed-text", "a vector of zeros"),
        ("one_backend_only", "fan-out phi3", "nothing went to b (a 4, b 0)"),
        ("backend_untouched", "backend's word", "served nothing meanwhile"),
        ("open_metrics", "metrics", "answered without a key"),
    ],
)
def test_each_fault_is_a_no_go(gateway: Gateway, fault: str, step: str, words: str) -> None:
    gateway.faults.add(fault)
    code, found = smoke(gateway, "--backend", gateway.url)
    assert found[step]["verdict"] == "fail"
    assert words in found[step]["detail"]
    assert code == 1


def test_leases_that_stay_are_a_no_go(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arriero.app.smoke.steps.SETTLE_S", 0.0)
    lease = Gateway.lease

    def leaking(self: Gateway) -> None:
        lease(self)
        if self.turn > 2:  # The two calls before the fan-out are clean.
            self.in_flight["b"] += 1

    monkeypatch.setattr(Gateway, "lease", leaking)
    code, found = smoke(gateway)
    assert found["in flight after"]["verdict"] == "fail"
    assert "b 4" in found["in flight after"]["detail"]
    assert code == 1


def test_others_at_work_are_not_blamed(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arriero.app.smoke.steps.SETTLE_S", 0.0)
    gateway.in_flight["a"] = 3
    code, found = smoke(gateway)
    assert found["in flight after"]["verdict"] == "not measured"
    assert code == 0


def test_a_host_without_the_model_in_memory_cannot_be_judged(gateway: Gateway) -> None:
    gateway.faults |= {"one_backend_only", "b_cold"}
    code, found = smoke(gateway)
    assert found["fan-out phi3"]["verdict"] == "cannot tell"
    assert "b has not loaded the model" in found["fan-out phi3"]["detail"]
    assert code == 3


def test_a_restart_in_between_cannot_be_judged(gateway: Gateway) -> None:
    gateway.faults.add("restart")
    code, found = smoke(gateway)
    assert found["fan-out phi3"]["verdict"] == "cannot tell"
    assert code == 3


def test_another_engine_is_judged_by_what_it_shows(gateway: Gateway) -> None:
    gateway.faults.add("not_arriero")
    code, found = smoke(gateway, "--backend", gateway.url)
    unmeasured = [step for step, verdict in verdicts(found).items() if verdict == "not measured"]
    assert unmeasured == ["fan-out phi3", "in flight after", "backends"]
    assert found["backend's word"]["verdict"] == "pass"
    assert code == 0


def test_a_backend_that_is_back_and_was_not_asked_yet_is_not_away(gateway: Gateway) -> None:
    """A gateway tries it again with a request; where few come, those of the acceptance do."""
    gateway.faults.add("b_unasked")
    code, found = smoke(gateway)
    assert found["backends"]["verdict"] == "pass"
    assert code == 0


def test_a_known_fault_is_shown_and_not_counted(gateway: Gateway) -> None:
    gateway.faults.add("many_ids")
    code, found = smoke(gateway, "--known", "stream *=each chunk has an id of its own")
    assert code == 0
    assert found["stream phi3"]["verdict"] == "known fault"
    assert "(known: each chunk has an id of its own)" in found["stream phi3"]["detail"]


def test_a_known_fault_excuses_no_other(gateway: Gateway) -> None:
    gateway.faults |= {"many_ids", "no_401"}
    code, found = smoke(gateway, "--known", "stream *=each chunk has an id of its own")
    assert code == 1
    assert found["no key"]["verdict"] == "fail"


def test_a_known_fault_that_is_mended_is_a_pass(gateway: Gateway) -> None:
    code, found = smoke(gateway, "--known", "stream *=each chunk has an id of its own")
    assert found["stream phi3"]["verdict"] == "pass"
    assert code == 0


def test_no_alias_is_a_no_go(gateway: Gateway) -> None:
    gateway.aliases.clear()
    code, found = smoke(gateway)
    assert found["models"]["detail"] == "the list is empty"
    assert code == 1


def test_a_wanted_alias_that_is_missing_is_a_no_go(gateway: Gateway) -> None:
    code, found = smoke(gateway, "--model", "phi3", "--model", "qwen")
    assert "missing: qwen" in found["models"]["detail"]
    assert found["chat qwen"]["detail"] == "HTTP 404: no such model"
    assert found["chat phi3"]["verdict"] == "pass"
    assert code == 1


def test_an_embedding_model_can_have_any_name(gateway: Gateway) -> None:
    gateway.aliases[:] = ["vectors"]
    code, found = smoke(gateway, "--embedding", "vectors")
    assert "embedding vectors" in found
    assert not [step for step in found if step.startswith(("chat", "overlap"))]
    assert code == 0


def test_public_metrics_are_right_when_asked_for(gateway: Gateway) -> None:
    assert smoke(gateway, "--public-metrics")[1]["metrics"]["verdict"] == "fail"
    gateway.faults.add("open_metrics")
    assert smoke(gateway, "--public-metrics")[1]["metrics"]["verdict"] == "pass"


def test_a_backend_that_is_away_cannot_be_judged(gateway: Gateway) -> None:
    code, found = smoke(gateway, "--backend", "http://127.0.0.1:1")
    assert found["backend's word"]["verdict"] == "cannot tell"
    assert code == 3


def test_nobody_there_cannot_be_judged() -> None:
    result = invoke("smoke", "--url", "http://127.0.0.1:1/v1")
    assert result.exit_code == 3
    assert "connection refused" in result.stdout
    assert "hint:" in result.stdout
    assert result.stdout.endswith("CANNOT TELL\n")


def test_plain_output_ends_in_the_outcome(gateway: Gateway) -> None:
    result = invoke("smoke", "--url", gateway.url)
    assert result.stdout.endswith("\nGO\n")
    assert "pass          models: phi3, nomic-embed-text\n" in result.stdout


@pytest.mark.parametrize(
    ("words", "key", "message"),
    [
        (["--url", "ftp://host"], KEY, "is not an http or https address"),
        (["--url", "http://host:port"], KEY, "has a port that is none"),
        ([], None, "no key given"),
        ([], " \n", "no key given"),
        (["--key", "two words"], None, "characters that no header can carry"),
        (["--key-file", "/no/such/file"], KEY, "cannot read the key"),
        (["--known", "stream *"], KEY, "a known fault without a reason"),
        (["--requests", "0"], KEY, "greater than or equal to 1"),
    ],
)
def test_wrong_use(words: list[str], key: str | None, message: str) -> None:
    result = invoke("smoke", *words, key=key)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_the_key_can_come_from_a_file(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    result = invoke("smoke", "--url", gateway.url, "--key-file", str(file), key="sk-another")
    assert result.exit_code == 0


@pytest.fixture
def bundle(gateway: Gateway, tmp_path: Path) -> Path:
    gateway.faults.add("plain_401")
    result = invoke("smoke", "--url", gateway.url + "/v1", "--evidence", str(tmp_path / "new"))
    (folder,) = (tmp_path / "new").iterdir()
    assert str(folder) in result.stderr
    return folder


def test_the_manifest_holds(bundle: Path) -> None:
    lines = (bundle / "manifest.sha256").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert {*sums, "manifest.sha256"} == {path.name for path in bundle.iterdir()}
    for name, digest in sums.items():
        assert hashlib.sha256((bundle / name).read_bytes()).hexdigest() == digest
    check = ["sha256sum", "--check", "--strict", "--status", "manifest.sha256"]
    assert subprocess.run(check, cwd=bundle, check=False).returncode == 0
    (bundle / "summary.md").chmod(0o600)
    (bundle / "summary.md").write_text("all is well")
    assert subprocess.run(check, cwd=bundle, check=False, stderr=subprocess.DEVNULL).returncode == 1


def test_the_bundle_tells_it_all_and_no_key(bundle: Path) -> None:
    transcript = (bundle / "transcript.txt").read_text()
    assert "POST /v1/chat/completions" in transcript
    assert "> Authorization: Bearer ***" in transcript
    assert "data: [DONE]" in transcript
    assert transcript.count("=== ") == json.loads((bundle / "results.json").read_text())["requests"]
    summary = (bundle / "summary.md").read_text()
    assert "NO-GO" in summary
    assert "| wrong key | fail |" in summary
    assert "c0ffee" in summary
    versions = json.loads((bundle / "versions.json").read_text())
    assert versions["gateway"] == "arriero 0.1.0"
    assert versions["backends"] == {"a": "ollama 0.12.0", "b": "ollama 0.12.0"}
    for path in bundle.iterdir():
        assert KEY not in path.read_text()
        assert path.stat().st_mode & 0o077 == 0


def test_a_key_that_the_gateway_echoes_is_blotted_out(gateway: Gateway, tmp_path: Path) -> None:
    echoed = "sk-some-other-key-98765"
    words = ["--url", gateway.url, "--key", echoed, "--evidence", str(tmp_path)]
    result = invoke("smoke", *words)
    assert result.exit_code == 1
    (folder,) = tmp_path.iterdir()
    assert "not Bearer ***" in (folder / "transcript.txt").read_text()
    assert not [path for path in folder.iterdir() if echoed in path.read_text()]


def test_two_bundles_of_one_second_stand_beside_each_other(
    gateway: Gateway, tmp_path: Path
) -> None:
    for _ in range(3):
        invoke("smoke", "--url", gateway.url, "--evidence", str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 3


def test_evidence_that_cannot_be_written_is_told(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = invoke("smoke", "--url", gateway.url, "--evidence", str(tmp_path / "file"))
    assert result.exit_code == 3
    assert "no evidence written" in result.stderr


def test_status_shows_the_fleet(gateway: Gateway) -> None:
    result = invoke("status", "--url", gateway.url)
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["a", "ollama", "available", "0", "0", "0.12.0", "phi3:3.8b"] in lines
    assert ["phi3", "b", "phi3:3.8b", "yes"] in lines


def test_status_before_the_first_inventory(gateway: Gateway) -> None:
    gateway.faults.add("no_inventory")
    assert invoke("status", "--url", gateway.url).exit_code == 0


def test_status_as_json_is_the_gateways_own(gateway: Gateway) -> None:
    result = invoke("status", "--url", gateway.url, "--json")
    assert json.loads(result.stdout)["config_digest"] == "c0ffee"


@pytest.mark.parametrize(
    ("fault", "key", "code", "words"),
    [
        ("not_ready", KEY, 1, "not ready"),
        ("not_arriero", KEY, 3, "is it arriero at all?"),
        ("none", "sk-wrong", 3, "refuses this key"),
    ],
)
def test_status_says_what_is_wrong(
    gateway: Gateway, fault: str, key: str, code: int, words: str
) -> None:
    gateway.faults.add(fault)
    result = invoke("status", "--url", gateway.url, key=key)
    assert result.exit_code == code
    assert words in result.output


def test_status_of_nobody() -> None:
    result = invoke("status", "--url", "127.0.0.1:1")
    assert result.exit_code == 3
    assert "hint: " in result.stderr
