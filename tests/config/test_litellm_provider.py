"""Which backend an entry means by its model's prefix and its address."""

from collections.abc import Callable

import pytest

from arriero.config.load import Loaded

Load = Callable[..., Loaded]
Mistakes = Callable[..., list[tuple[int, int, str]]]
BASE = "http://a:8080"


def listed(model: str, more: str) -> str:
    return f"model_list:\n  - {{model_name: m, litellm_params: {{model: '{model}', {more}}}}}\n"


@pytest.mark.parametrize(
    ("written", "kind", "model"),
    [
        ("ollama/llama3:8b", "ollama", "llama3:8b"),
        ("ollama_chat/llama3:8b", "ollama", "llama3:8b"),
        ("llama3:8b", "ollama", "llama3:8b"),
        ("hf.co/org/name-GGUF:Q4_K_M", "ollama", "hf.co/org/name-GGUF:Q4_K_M"),
        ("someone/theirs", "ollama", "someone/theirs"),
        ("ollama_chat/deepseek/r1", "ollama", "deepseek/r1"),
        ("openai/gpt-oss", "openai", "gpt-oss"),
        ("hosted_vllm/org/name", "openai", "org/name"),
        ("llamafile/x", "openai", "x"),
        ("lm_studio/x", "openai", "x"),
        ("openai_like/x", "openai", "x"),
    ],
)
def test_prefixes(written: str, kind: str, model: str, keyed: Load) -> None:
    config = keyed(listed(written, f"api_base: '{BASE}'")).config
    assert config.backends[0].kind == kind
    assert config.models[0].routes[0].model == model


def test_a_version_path_is_the_dialects_business(keyed: Load) -> None:
    config = keyed(listed("openai/x", f"api_base: '{BASE}/v1/'")).config
    assert config.backends[0].url == BASE


def test_the_provider_may_be_named_apart(keyed: Load) -> None:
    config = keyed(listed("org/x", f"api_base: '{BASE}', custom_llm_provider: openai")).config
    assert (config.backends[0].kind, config.models[0].routes[0].model) == ("openai", "org/x")
    config = keyed(listed("ollama/x", f"api_base: '{BASE}', custom_llm_provider: ollama")).config
    assert (config.backends[0].kind, config.models[0].routes[0].model) == ("ollama", "x")


def test_a_model_without_prefix_is_noted(keyed: Load) -> None:
    (note,) = keyed(listed("llama3", f"api_base: '{BASE}'")).notes
    assert (note.line, note.column) == (2, 45)
    assert note.message == "no provider prefix: taken for a model of Ollama"


def test_ollama_without_an_address_is_local(keyed: Load) -> None:
    loaded = keyed(listed("ollama/llama3", "num_ctx: 4096"))
    assert loaded.config.backends[0].url == "http://localhost:11434"
    assert [note.message for note in loaded.notes] == [
        "no `api_base`: Ollama is expected at http://localhost:11434"
    ]


@pytest.mark.parametrize(
    ("model", "more", "column", "message"),
    [
        ("openai/gpt-4o", "api_key: sk-x", 45, "provider `openai`: arriero fronts"),
        ("anthropic/claude", "api_key: sk-x, some_key: 1", 45, "provider `anthropic`: arriero"),
        ("azure/gpt", f"api_base: '{BASE}', api_version: x", 45, "provider `azure`: arriero"),
        ("x", "custom_llm_provider: bedrock", 71, "provider `bedrock`: arriero fronts"),
        ("gpt-4o", "api_key: sk-x", 45, "`api_base` is missing"),
        ("hosted_vllm/x", "api_key: sk-x", 45, "`api_base` is missing"),
        ("ollama/*", f"api_base: '{BASE}'", 45, "wildcards are not supported"),
        ("ollama/", f"api_base: '{BASE}'", 45, "the model has no name after its provider"),
        ("ollama/x", f"api_base: '{BASE}/v1'", 67, "an Ollama address has no path"),
    ],
)
def test_what_is_no_server_of_ones_own(
    model: str, more: str, column: int, message: str, mistakes: Mistakes
) -> None:
    ((line, found, said), *rest) = mistakes(listed(model, more))
    assert (line, found, rest) == (2, column, [])
    assert said.startswith(message)


def test_cloud_entries_are_told_what_arriero_is_not(mistakes: Mistakes) -> None:
    ((_, _, message),) = mistakes(listed("gemini/pro", "api_key: sk-secret"))
    assert "no client of cloud providers" in message
    assert "sk-secret" not in message
