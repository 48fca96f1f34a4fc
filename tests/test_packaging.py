"""What is installed is the package, whole and nothing else, and serving imports only its own."""

import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# What has no part in serving and costs start-up time and memory: other commands' needs, formats of
# /metrics that are made when first asked for, and what stands in for real model servers.
NOT_FOR_SERVING = (
    "anyio",
    "arriero.admin",
    "arriero.embedded",
    "arriero.testing",
    "gguf",
    "httpx",
    "numpy",
    "prometheus_client",
    "pydantic",
    "rich",
    "sqlalchemy",
    "starlette",
    "tokenizers",
    "typer",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build the wheel as `pip install .` does, but with what is here: no isolation, no index."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder)]
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", *options, str(ROOT)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    sources = {p.relative_to(ROOT / "src").as_posix() for p in (ROOT / "src").rglob("*.py")}
    assert sources <= set(names)
    assert "arriero/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"arriero"}
    assert not [name for name in names if "test_" in name or name.endswith(".pyc")]


def test_the_wheel_brings_the_command(wheel: zipfile.ZipFile) -> None:
    (entry,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "arriero = arriero.cli.main:app" in wheel.read(entry).decode()


def test_the_service_lock_is_the_service_and_its_builder() -> None:
    lock = (ROOT / "requirements/lock.txt").read_text()
    pinned = [line.partition("==")[0] for line in lock.splitlines() if "==" in line[:60]]
    assert {"uvloop", "httptools", "msgspec", "pyyaml", "hatchling"} <= set(pinned)
    assert not {"pytest", "numpy", "gguf", "openai", "requests", "ruff"} & set(pinned)
    assert lock.count("==") <= lock.count("--hash=sha256:")


def modules_after(statement: str) -> set[str]:
    """Return what a fresh interpreter has imported after this statement."""
    script = f"{statement}; import sys; print(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return set(run.stdout.split())


@pytest.mark.skipif(not find_spec("arriero.app.run"), reason="nothing serves yet")
def test_serving_imports_only_what_serves() -> None:
    modules = modules_after("import arriero.app.run")
    assert not [name for name in NOT_FOR_SERVING if name in modules]


def test_the_import_test_can_fail() -> None:
    assert "rich" in modules_after("import rich")
