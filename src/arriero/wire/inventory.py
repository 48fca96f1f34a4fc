"""What model servers say about themselves: models on disk, models in memory, the version.

Pure decoders; each raises ValueError on what is not that answer. An empty list may be written as
null: Go's nil slices come out so.
"""

import msgspec

from arriero.wire.parsing import parse


class Listed(msgspec.Struct, frozen=True):
    """A model on a host's disk. Empty capabilities: an Ollama before 0.30 does not tell."""

    digest: str = ""
    capabilities: frozenset[str] = frozenset()

    @property
    def only_embeds(self) -> bool:
        """The model makes embeddings and nothing else."""
        return "completion" not in self.capabilities and "embedding" in self.capabilities


# "For ever" is Go's longest duration from now on, which ends after the year 2300 (RFC 3339 times
# in UTC sort as text).
_NEVER = "2200"


class Loaded(msgspec.Struct, frozen=True):
    """A model in a host's memory; `size_vram_bytes < size_bytes` means partly on the CPU."""

    context: int = 0
    size_bytes: int = 0
    size_vram_bytes: int = 0
    forever: bool = False  # it never expires by itself

    @property
    def offloaded(self) -> float:
        """The part of the model, 0 to 1, that the processor has to compute."""
        if self.size_bytes <= 0:
            return 0.0  # not told
        return max(0.0, 1 - self.size_vram_bytes / self.size_bytes)


class _Tag(msgspec.Struct, gc=False):
    name: str | None = None
    model: str | None = None
    digest: str | None = None
    capabilities: list[str] | None = None
    remote_model: str | None = None
    remote_host: str | None = None


class _Tags(msgspec.Struct, gc=False):
    models: list[_Tag] | None


class _Process(msgspec.Struct, gc=False):
    name: str | None = None
    model: str | None = None
    size: int | None = None
    size_vram: int | None = None
    context_length: int | None = None
    expires_at: str | None = None


class _Processes(msgspec.Struct, gc=False):
    models: list[_Process] | None


class _Version(msgspec.Struct, gc=False):
    version: str


class _OpenAiModel(msgspec.Struct, gc=False):
    id: str


class _OpenAiModels(msgspec.Struct, gc=False):
    data: list[_OpenAiModel] | None


_tags = msgspec.json.Decoder(_Tags)
_processes = msgspec.json.Decoder(_Processes)
_version = msgspec.json.Decoder(_Version)
_openai_models = msgspec.json.Decoder(_OpenAiModels)


def full_name(model: str) -> str:
    """Return an Ollama model's name with its tag: `llama3` is `llama3:latest`.

    Only the last path segment can carry a tag; a colon before it is a registry's port.
    """
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


def decode_tags(body: bytes) -> dict[str, Listed]:
    """Return the models of `GET /api/tags` by full name.

    Stubs of cloud models are left out: they are not on this host, and asking for one would send
    the prompt to somebody else's.
    """
    tags = parse(_tags, body)
    return {
        full_name(name): Listed(tag.digest or "", frozenset(tag.capabilities or ()))
        for tag in tags.models or ()
        if (name := tag.name or tag.model) and not (tag.remote_host or tag.remote_model)
    }


def decode_ps(body: bytes) -> dict[str, Loaded]:
    """Return the models of `GET /api/ps` by full name; one still loading is not among them."""
    processes = parse(_processes, body)
    return {
        full_name(name): Loaded(
            process.context_length or 0,
            process.size or 0,
            process.size_vram or 0,
            (process.expires_at or "") >= _NEVER,
        )
        for process in processes.models or ()
        if (name := process.name or process.model)
    }


def decode_version(body: bytes) -> str:
    """Return the version of `GET /api/version`."""
    version = parse(_version, body)
    return version.version


def decode_openai_models(body: bytes) -> list[str]:
    """Return the ids of `GET /v1/models`."""
    models = parse(_openai_models, body)
    return [model.id for model in models.data or ()]
