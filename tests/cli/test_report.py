"""`arriero report` from the command line, on a bundle that `arriero smoke` wrote."""

import json
import shutil
from pathlib import Path

import pytest
from tests.cli.fake_gateway import KEY, running
from typer.testing import CliRunner, Result

from arriero.cli.main import app


def invoke(*words: str, key: str | None = KEY) -> Result:
    return CliRunner().invoke(app, list(words), env={"ARRIERO_API_KEY": key, "NO_COLOR": "1"})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("evidence")
    with running() as gateway:
        invoke("smoke", "--url", gateway.url, "--requests", "4", "--evidence", str(parent))
    (folder,) = parent.iterdir()
    return folder


@pytest.fixture
def smoked(bundle: Path, tmp_path: Path) -> Path:
    """A copy, because a report is written into it."""
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


def added(tmp_path: Path, verdict: str) -> str:
    path = tmp_path / f"{verdict}.json"
    found = {"step": "unit", "verdict": verdict, "detail": "litellm.service", "hint": "look at it"}
    path.write_text(json.dumps({"title": "On the gateway's host", "findings": [found]}))
    return str(path)


def test_a_good_bundle_stays_a_go(smoked: Path) -> None:
    result = invoke("report", str(smoked))
    assert (result.exit_code, result.stdout) == (0, "GO\n")
    assert "report.html" in result.stderr


@pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("cannot tell", 3), ("fail", 1)])
def test_a_host_s_finding_decides(smoked: Path, tmp_path: Path, verdict: str, code: int) -> None:
    result = invoke("report", str(smoked), "--add", added(tmp_path, verdict), key=None)
    assert result.exit_code == code
    html = (smoked / "report.html").read_text()
    assert "On the gateway&#x27;s host" in html
    assert KEY not in html


def test_every_step_of_the_smoke_is_on_the_page(smoked: Path) -> None:
    html = (smoked / "report.html").read_text()
    for found in json.loads((smoked / "results.json").read_text())["findings"]:
        assert f"<td>{found['step'].replace(chr(39), '&#x27;')}</td>" in html


@pytest.mark.parametrize("words", [["no-such-folder"], [".", "--add", "no-such-file"]])
def test_wrong_use(words: list[str]) -> None:
    result = invoke("report", *words)
    assert result.exit_code == 2
    assert "hint:" in result.stderr
