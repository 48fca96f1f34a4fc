"""What the tests of the configuration share: loading text without files or an environment."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from arriero.config.load import Loaded, load
from arriero.config.problems import ConfigError, Problem

KEY = "correct-horse-battery"
Load = Callable[..., Loaded]
Mistakes = Callable[..., list[tuple[int, int, str]]]


def _load(text: str, files: Mapping[str, bytes] | None = None, /, **environ: str) -> Loaded:
    def read_file(path: str) -> bytes:
        try:
            return (files or {})[path]
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory", path) from None

    return load("c.yaml", text.encode(), environ, read_file)


def _problems(
    text: str, files: Mapping[str, bytes] | None = None, /, **environ: str
) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        _load(text, files, **environ)
    return caught.value.problems


@pytest.fixture
def load_text() -> Load:
    """Load a configuration's text with the environment given by keywords."""
    return _load


@pytest.fixture
def keyed() -> Load:
    """Load a configuration's text that leaves the master key to the environment."""

    def load_keyed(text: str, **environ: str) -> Loaded:
        return _load(text, **{"ARRIERO_MASTER_KEY": KEY} | environ)

    return load_keyed


@pytest.fixture
def mistakes() -> Mistakes:
    """Return line, column and message of every mistake in a text that must not load."""

    def of(text: str, **environ: str) -> list[tuple[int, int, str]]:
        problems = _problems(text, **{"ARRIERO_MASTER_KEY": KEY} | environ)
        assert all(problem.severity == "error" for problem in problems)
        return [(problem.line, problem.column, problem.message) for problem in problems]

    return of


@pytest.fixture
def hints() -> Callable[..., list[str | None]]:
    """Return the hint of every mistake in a text that must not load."""

    def of(text: str, **environ: str) -> list[str | None]:
        problems = _problems(text, **{"ARRIERO_MASTER_KEY": KEY} | environ)
        return [problem.hint for problem in problems]

    return of


@pytest.fixture
def root() -> Path:
    """Return the root of the repository."""
    return Path(__file__).parent.parent.parent
