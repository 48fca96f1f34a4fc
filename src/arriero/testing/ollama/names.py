"""Model names as Ollama reads them: `host/namespace/model:tag`, with defaults for what is missing.

Source: types/model/name.go and internal/modelref in Ollama's repository.
"""

import re
from dataclasses import dataclass
from typing import Final

DEFAULT_HOST: Final = "registry.ollama.ai"
DEFAULT_NAMESPACE: Final = "library"
DEFAULT_TAG: Final = "latest"
_PART_BYTES_MAX: Final = 80

_PART = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{_PART_BYTES_MAX - 1}}}\Z")
_NAMESPACE = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_-]{{0,{_PART_BYTES_MAX - 1}}}\Z")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}\Z")


class ModelRequired(Exception):
    """The name is empty."""


class InvalidName(Exception):
    """The name cannot be a model's."""


@dataclass(frozen=True, slots=True)
class Name:
    """A complete model name; equal names in other letter cases have equal `key`s."""

    host: str
    namespace: str
    model: str
    tag: str

    @property
    def key(self) -> str:
        """Return what names are compared by."""
        return str(self).lower()

    @property
    def short(self) -> str:
        """Return the name without the parts that are the defaults, the tag always shown."""
        name = f"{self.model}:{self.tag}"
        if self.host.lower() != DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{name}"
        if self.namespace.lower() != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{name}"
        return name

    def __str__(self) -> str:
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"


def parse(raw: str) -> Name:
    """Read a name; raises ModelRequired or InvalidName."""
    raw = raw.strip()
    if not raw:
        raise ModelRequired
    rest, tag = raw, DEFAULT_TAG
    if raw.rfind(":") > raw.rfind("/"):
        rest, _, tag = raw.rpartition(":")
    rest, _, model = rest.rpartition("/")
    rest, _, namespace = rest.rpartition("/")
    name = Name(
        rest.partition("://")[2] or rest or DEFAULT_HOST,
        namespace or DEFAULT_NAMESPACE,
        model,
        tag,
    )
    if not _valid(name):
        raise InvalidName
    return name


def _valid(name: Name) -> bool:
    return bool(
        _HOST.match(name.host)
        and _NAMESPACE.match(name.namespace)
        and _PART.match(name.model)
        and _PART.match(name.tag)
    )
