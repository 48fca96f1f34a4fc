"""The acceptance against arriero itself, with its real server before simulated Ollama hosts."""

import json
import re
from pathlib import Path

from tests.cli.processes import KEY, fleet
from typer.testing import CliRunner

from arriero.cli.main import app

MODELS = {"phi3-3.8b": "phi3:3.8b", "vectors": "nomic-embed-text,capabilities=embedding"}


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words), env={"ARRIERO_API_KEY": KEY, "NO_COLOR": "1"})
    return result.exit_code, result.stdout


# As a deployment has it, in LiteLLM's words. With `adaptive` requests would wait for
# the host that has the model loaded, and that is the first one where all are fresh.
LEAST_BUSY = {"strategy": "least-busy"}


def test_arriero_is_accepted(tmp_path: Path) -> None:
    with fleet(tmp_path, MODELS, routing=LEAST_BUSY) as (url, backends):
        asked = [word for backend in backends for word in ("--backend", backend)]
        code, output = run("smoke", "--url", url, "--json", "--evidence", str(tmp_path), *asked)
        found = json.loads(output)
        verdicts = {finding["verdict"] for finding in found["findings"]}
        assert verdicts == {"pass"}, output
        assert code == 0
        fan_out = next(f for f in found["findings"] if f["step"] == "fan-out phi3-3.8b")
        shares = [int(count) for count in re.findall(r"llm\d+ (\d+)", fan_out["detail"])]
        # On a busy machine some requests end before others begin, so the halves need not be equal.
        assert sum(shares) == 10
        assert min(shares) >= 1
        assert any(f["step"] == "embedding vectors" for f in found["findings"])
        code, output = run("status", "--url", url)
        assert code == 0
        assert "llm02" in output
    assert KEY not in (tmp_path / "access.log").read_text()


def test_arriero_with_a_host_away_is_not(tmp_path: Path) -> None:
    with fleet(tmp_path, MODELS, hosts=1, dead=("http://127.0.0.1:1",)) as (url, _):
        code, output = run("smoke", "--url", url, "--json")
    found = {f["step"]: f for f in json.loads(output)["findings"]}
    failed = [step for step, finding in found.items() if finding["verdict"] == "fail"]
    assert failed == ["backends"]
    assert found["backends"]["detail"] == "llm02 ejected"
    assert found["fan-out phi3-3.8b"]["detail"] == "llm01 10; without the model or away: llm02"
    assert code == 1
