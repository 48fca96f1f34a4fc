"""`arriero check`: exit codes, what goes where, and nothing secret."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
FIXTURES = ROOT / "tests/fixtures/config"
ARRIERO = [sys.executable, "-m", "arriero"]
KEY = "correct-horse-battery"


def run(*arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [*ARRIERO, "check", *map(str, arguments)]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, env=environ, timeout=30
    )


def test_the_specification_is_good_and_explained() -> None:
    path = FIXTURES / "spec-rendered.yaml"
    done = run(path)
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert f"{path}:50:3: note: `telemetry` has no effect: nothing is ever sent home" in lines
    assert "good: 2 aliases on 2 backends, least-busy, at 127.0.0.1:4000" in lines
    both = "hx-llm01-server (llama3:8b-instruct-q8_0), hx-llm02-server (llama3:8b-instruct-q8_0)"
    assert f"  llama3-8b -> {both}" in lines
    shown = yaml.safe_load(done.stdout)
    assert shown["access"]["master_key"] == "***"
    assert [model["name"] for model in shown["models"]] == ["phi3-3.8b", "llama3-8b"]
    assert "sk-REDACT" not in done.stdout + done.stderr


def test_what_is_printed_can_be_checked_again(tmp_path: Path) -> None:
    shown = run(FIXTURES / "spec-rendered.yaml").stdout
    path = tmp_path / "again.yaml"
    path.write_text(shown.replace("'***'", KEY))
    done = run(path)
    assert done.returncode == 0
    assert done.stdout == shown


def test_ten_mistakes_are_told_with_hints() -> None:
    path = FIXTURES / "ten-mistakes.yaml"
    done = run(path)
    assert done.returncode == 1
    assert not done.stdout
    lines = done.stderr.splitlines()
    assert len([line for line in lines if line.startswith(f"{path}:")]) == 11
    assert lines[-1] == f"{path}: 10 mistakes"
    at = lines.index(f"{path}:17:3: unknown key `drain_timout_s`")
    assert lines[at + 1] == "  hint: did you mean `drain_timeout_s`?"
    assert "sk-1234" not in done.stderr


@pytest.mark.parametrize("quiet", ["--quiet", "-q"])
def test_quiet_prints_nothing_but_mistakes(quiet: str) -> None:
    good = run(FIXTURES / "spec-rendered.yaml", quiet)
    assert (good.returncode, good.stdout, good.stderr) == (0, "", "")
    assert run(FIXTURES / "ten-mistakes.yaml", quiet).stderr.endswith(": 10 mistakes\n")


def test_json_of_a_good_file() -> None:
    done = run(FIXTURES / "spec-rendered.yaml", "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert (document["good"], document["vocabulary"]) == (True, "litellm")
    assert len(document["digest"]) == 64
    assert {problem["severity"] for problem in document["problems"]} == {"note"}
    access = document["config"]["access"]
    assert (access["master_key"], access["metrics_public"]) == ("***", False)


def test_json_of_a_bad_file() -> None:
    done = run(FIXTURES / "ten-mistakes.yaml", "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, done.stderr, document["good"]) == (1, "", False)
    assert len(document["problems"]) == 10
    first = document["problems"][0]
    assert (first["line"], first["column"], first["severity"]) == (3, 9, "error")


@pytest.mark.parametrize("name", ["none.yaml", "."])
def test_a_file_that_cannot_be_read_is_wrong_use(name: str, tmp_path: Path) -> None:
    done = run(tmp_path / name)
    assert done.returncode == 2
    assert "  hint: " in done.stderr
    assert not done.stdout


def test_no_file_at_all_is_wrong_use() -> None:
    assert run().returncode == 2


def test_keys_of_the_environment_are_not_shown() -> None:
    keys = {"ARRIERO_MASTER_KEY": KEY, "LLAMACPP_KEY": "hunter2-hunter2"}
    done = run(ROOT / "examples/arriero.yaml", **keys)
    assert done.returncode == 0
    assert done.stdout.count("***") == 2
    for key in keys.values():
        assert key not in done.stdout + done.stderr
