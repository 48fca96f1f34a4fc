"""Whole files: the specification's template as rendered, ten mistakes, and the examples."""

from collections.abc import Callable
from pathlib import Path

import pytest

from arriero.config.load import Loaded
from arriero.config.settings import Timeouts

Load = Callable[..., Loaded]
Mistakes = Callable[..., list[tuple[int, int, str]]]

POLICY = "`retry_policy` has no effect: LiteLLM has no policy of that name, and ignores it"
EXAMPLES = {"examples/arriero.yaml": "arriero", "examples/litellm.yaml": "litellm"}


@pytest.fixture
def spec(load_text: Load, root: Path) -> Loaded:
    """Load the specification's template, rendered with its own variables and nothing else."""
    return load_text((root / "tests/fixtures/config/spec-rendered.yaml").read_text())


def test_the_specification_serves_both_aliases_on_both_hosts(spec: Loaded) -> None:
    config = spec.config
    assert [(backend.name, backend.url, backend.kind) for backend in config.backends] == [
        ("hx-llm01-server", "http://hx-llm01-server.dev-test.hana-x.ai:11434", "ollama"),
        ("hx-llm02-server", "http://hx-llm02-server.dev-test.hana-x.ai:11434", "ollama"),
    ]
    assert {model.name: {route.model for route in model.routes} for model in config.models} == {
        "phi3-3.8b": {"phi3:3.8b-mini-128k-instruct-q8_0"},
        "llama3-8b": {"llama3:8b-instruct-q8_0"},
    }
    for model in config.models:
        assert [route.backend for route in model.routes] == ["hx-llm01-server", "hx-llm02-server"]


def test_the_specification_means_what_it_says(spec: Loaded) -> None:
    config = spec.config
    assert spec.vocabulary == "litellm"
    assert config.routing.strategy == "least-busy"
    assert config.access.master_key is not None
    assert config.access.master_key.reveal() == "sk-REDACT_LOCAL_MASTER"
    for model in config.models:
        assert (model.mode, model.retries, model.max_input_tokens) == ("chat", 2, 2048)
        for route in model.routes:
            assert route.timeouts == Timeouts(first_token_s=30, inter_token_s=30, response_s=30)


def test_the_specification_is_told_what_differs(spec: Loaded) -> None:
    told = [(note.line, note.column, note.message.partition(" (also")[0]) for note in spec.notes]
    assert told == [
        (7, 14, "no provider prefix: taken for a model of Ollama"),
        (10, 24, "30 s may be less than a model takes to load"),
        (44, 3, "this timeout has no effect: every entry of `model_list` sets its own"),
        (45, 17, POLICY),
        (49, 15, "the master key looks like a placeholder"),
        (50, 3, "`telemetry` has no effect: nothing is ever sent home"),
    ]  # fmt: skip


def test_ten_mistakes_are_ten_errors_each_at_its_place(mistakes: Mistakes, root: Path) -> None:
    text = (root / "tests/fixtures/config/ten-mistakes.yaml").read_text()
    told = mistakes(text)
    assert [(line, column) for line, column, _ in told] == [
        (3, 9),
        (4, 15),
        (4, 39),
        (10, 22),
        (11, 14),
        (12, 5),
        (16, 9),
        (17, 3),
        (18, 3),
        (21, 15),
    ]
    for (_, _, message), words in zip(told, [
        "no path", "must be an http:// or https://", "`kind` must be one of", "no backend `gpu4`",
        "`context` must be a whole number", "`llama3` is given twice", "`port` must be",
        "unknown key `drain_timout_s`", "`port` is given twice", "publicly known",
    ], strict=True):  # fmt: skip
        assert words in message


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_load_and_have_little_to_be_told(name: str, load_text: Load, root: Path) -> None:
    environ = {"ARRIERO_MASTER_KEY": "correct-horse", "LITELLM_MASTER_KEY": "correct-horse"}
    keys = {"LLAMACPP_KEY": "one", "VLLM_KEY": "two"}
    loaded = load_text((root / name).read_text(), **environ, **keys)
    assert loaded.vocabulary == EXAMPLES[name]
    assert len(loaded.config.backends) == 3
    assert {backend.kind for backend in loaded.config.backends} == {"ollama", "openai"}
    assert len(loaded.notes) <= 1


def test_every_example_is_tested(root: Path) -> None:
    found = {path.relative_to(root).as_posix() for path in (root / "examples").glob("*.yaml")}
    assert found == set(EXAMPLES)
