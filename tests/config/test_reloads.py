"""Aliases that would reload each other's model are told at `check`, in either vocabulary."""

import pytest
from tests.config.conftest import Load

OURS = """\
backends: [http://a:11434, http://b:11434]
models:
  - {{name: short, model: llama3, {short}}}
  - {{name: long, model: "llama3:latest", {long}}}
"""


def notes(text: str, load: Load) -> list[tuple[int, str]]:
    return [(note.line, note.message) for note in load(text).notes]


def test_different_contexts_are_told_once_with_both_figures(keyed: Load) -> None:
    found = notes(OURS.format(short="context: 4096", long="context: 32768"), keyed)
    assert [line for line, _ in found] == [4]
    assert "`long` and `short`" in found[0][1]
    assert "`context` 32768 and 4096" in found[0][1]


def test_a_context_beside_none_is_told(keyed: Load) -> None:
    found = notes(OURS.format(short="context: 4096", long="retries: 1"), keyed)
    assert "`context` not given and 4096" in found[0][1]


def test_other_options_that_load_anew_are_told(keyed: Load) -> None:
    text = OURS.format(short="options: {num_gpu: 10}", long="options: {num_gpu: 99}")
    assert "`num_gpu` 99 and 10" in notes(text, keyed)[0][1]


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("context: 4096", "context: 4096"),
        ("retries: 1", "retries: 2"),
        ("options: {temperature: 0}", "options: {temperature: 1}"),
        ("context: 4096, backends: [a]", "context: 8192, backends: [b]"),
    ],
)
def test_what_reloads_nothing_is_not_told(short: str, long: str, keyed: Load) -> None:
    assert notes(OURS.format(short=short, long=long), keyed) == []


def test_other_kinds_of_backends_load_nothing(keyed: Load) -> None:
    text = """\
backends: [{url: http://a:8000, kind: openai}]
models:
  - {name: short, model: llama3, context: 4096}
  - {name: long, model: llama3, context: 8192}
"""
    assert notes(text, keyed) == []


def test_litellms_vocabulary_is_told_alike(keyed: Load) -> None:
    text = """\
model_list:
  - model_name: short
    litellm_params: {model: ollama/llama3, api_base: http://a:11434, num_ctx: 4096}
  - model_name: long
    litellm_params: {model: ollama/llama3, api_base: http://a:11434, num_ctx: 8192}
"""
    found = [each for each in notes(text, keyed) if "unload" in each[1]]
    assert [line for line, _ in found] == [4]
