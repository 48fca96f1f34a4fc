"""Which backend a LiteLLM entry means: its `model`, its provider prefix and its `api_base`."""

from collections.abc import Mapping
from typing import Final

import msgspec

from arriero.config import addresses
from arriero.config.litellm_keys import (
    CLOUD_PROVIDERS,
    OLLAMA_PROVIDERS,
    OPENAI_PROVIDERS,
    Deployment,
)
from arriero.config.reader import Place, Reader
from arriero.config.settings import BackendKind, Secret
from arriero.config.tree import Entry

LOCAL_OLLAMA: Final = "http://localhost:11434"
_NOT_A_CLOUD_CLIENT: Final = (
    "arriero fronts model servers of your own (Ollama, llama.cpp, vLLM) and is no client of "
    "cloud providers"
)


class Server(msgspec.Struct, frozen=True):
    """A model server as an entry names it; equal ones are one backend."""

    url: str
    kind: BackendKind
    api_key: Secret | None


class Target(msgspec.Struct, frozen=True):
    """A model on a server."""

    server: Server
    model: str


def target(reader: Reader, at: Place, entry: Deployment, base_at: Place) -> Target | None:
    """Return where the entry points, or None after telling why nowhere.

    `at` is the place of `model`, `base_at` that of `api_base`.
    """
    provider, model = _split(entry)
    if provider == "openai" and entry.api_base is None:
        _tell_cloud(reader, at, provider)
        return None
    if "*" in model or "*" in entry.model_name:
        reader.error(at, "wildcards are not supported", "name each model in an entry of its own")
        return None
    if not model:
        reader.error(at, "the model has no name after its provider prefix")
        return None
    if provider is None:
        hint = "write ollama_chat/MODEL, or openai/MODEL for another kind of server"
        reader.note(at, "no provider prefix: taken for a model of Ollama", hint)
    kind: BackendKind = "openai" if provider in OPENAI_PROVIDERS else "ollama"
    url = entry.api_base or _default_base(reader, at, provider)
    base = addresses.base(reader, base_at, url, kind) if url else None
    if base is None:
        return None
    key = entry.api_key if entry.api_key != Secret("") else None
    return Target(Server(base, kind, key), model)


def names_cloud(reader: Reader, entries: Mapping[str, Entry]) -> bool:
    """Tell an entry of a cloud provider; its many own keys are then not worth a word."""
    for key in ("custom_llm_provider", "model"):
        entry = entries.get(key)
        provider = entry.node.text.partition("/")[0] if entry else ""
        if entry and provider in CLOUD_PROVIDERS and (key != "model" or "/" in entry.node.text):
            _tell_cloud(reader, entry.node, provider)
            return True
        if provider:
            return False
    return False


def _tell_cloud(reader: Reader, at: Place, provider: str) -> None:
    hint = "remove the entry, or name a server of your own: openai/MODEL with `api_base`"
    reader.error(at, f"provider `{provider}`: {_NOT_A_CLOUD_CLIENT}", hint)


def _split(entry: Deployment) -> tuple[str | None, str]:
    """Return provider and model name; a slash may as well belong to an Ollama model's name."""
    known = OLLAMA_PROVIDERS | OPENAI_PROVIDERS | CLOUD_PROVIDERS
    prefix, _, rest = entry.model.partition("/")
    if entry.custom_llm_provider is not None:
        named = entry.custom_llm_provider
        return named, rest if prefix == named else entry.model
    return (prefix, rest) if "/" in entry.model and prefix in known else (None, entry.model)


def _default_base(reader: Reader, at: Place, provider: str | None) -> str | None:
    if provider in OLLAMA_PROVIDERS:
        reader.note(at, f"no `api_base`: Ollama is expected at {LOCAL_OLLAMA}")
        return LOCAL_OLLAMA
    reader.error(at, "`api_base` is missing", f"for example api_base: {LOCAL_OLLAMA}")
    return None
