"""The scripts on machines that lack something: what is wrong is said, with the way out."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def bash(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("ARRIERO_")}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f". {ROOT}/scripts/env.sh\n{script}"],
        env=ours | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """Make a PATH with the tools every system has, and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("bash", "cat", "dirname", "sha256sum"):
        found = shutil.which(tool)
        assert found
        (folder / tool).symlink_to(found)
    return folder


def test_no_python_is_told(bare_path: Path, tmp_path: Path) -> None:
    run = bash("ensure_env lock.txt", PATH=str(bare_path), ARRIERO_VENV=str(tmp_path / "venv"))
    assert run.returncode == 3
    assert run.stderr.startswith("error: no Python 3.11 or later found\nhint: install one")


@pytest.mark.parametrize("old", ["exit 1", "exit 127"])
def test_a_python_that_does_not_run_is_passed_over(bare_path: Path, old: str) -> None:
    for name, does in (("python3.11", old), ("python3.12", f'exec {sys.executable} "$@"')):
        (bare_path / name).write_text(f"#!{shutil.which('bash')}\n{does}\n")
        (bare_path / name).chmod(0o755)
    run = bash("find_python", PATH=str(bare_path))
    assert run.stdout == f"{bare_path}/python3.12\n"


def test_the_stamp_follows_what_it_stamps(tmp_path: Path) -> None:
    one, other = (bash(f"stamp_of requirements/{name}").stdout for name in ("lock.txt", "test.txt"))
    assert len(one) > 64
    assert one != other
    assert one == bash("stamp_of requirements/lock.txt").stdout


def test_a_copied_environment_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(sys.executable)
    asked = "venv_is_ours && echo ours || echo another"
    assert bash(asked, ARRIERO_VENV=str(tmp_path)).stdout == "another\n"
    (tmp_path / ".root").write_text("/somewhere/else\n")
    assert bash(asked, ARRIERO_VENV=str(tmp_path)).stdout == "another\n"
    (tmp_path / ".root").write_text(f"{ROOT}\n")
    assert bash(asked, ARRIERO_VENV=str(tmp_path)).stdout == "ours\n"


def test_a_lock_without_uv_is_told() -> None:
    run = subprocess.run(
        [ROOT / "scripts/lock"],
        env=os.environ | {"UV": "no-such-uv"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 3
    assert "hint:" in run.stderr
