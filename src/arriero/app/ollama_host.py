"""Find the Ollama of this machine, where its own command line would look for it."""

from typing import Final
from urllib.parse import urlsplit

import msgspec

from arriero.app.client import Endpoint
from arriero.base.clock import Clock
from arriero.wire.inventory import Listed, decode_tags, decode_version

DEFAULT_PORT: Final = 11434
SCHEME_PORTS: Final = {"http": 80, "https": 443}
TIMEOUT_S: Final = 5.0
OK: Final = 200


class FoundOllama(msgspec.Struct, frozen=True):
    """An Ollama that answers, and its models by full name."""

    url: str
    version: str
    models: dict[str, Listed]


def ollama_url(given: str | None) -> str:
    """Return the address that `OLLAMA_HOST` means to a client of Ollama.

    Scheme, host and port may each be left out: `https://box` is port 443, `box` is port 11434,
    `:8080` is this machine. The listening address 0.0.0.0 is this machine too. Raises ValueError
    on a port that is none.
    """
    text = (given or "").strip().strip("\"'").rstrip("/")
    scheme, found, rest = text.rpartition("://")
    if not found:
        scheme, rest = "", text
    if rest.count(":") > 1 and not rest.startswith("["):
        rest = f"[{rest}]"  # an IPv6 address without its brackets
    parts = urlsplit(f"//{rest}")
    host = parts.hostname or "127.0.0.1"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
    port = parts.port or SCHEME_PORTS.get(scheme, DEFAULT_PORT)
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme or 'http'}://{shown}:{port}"


def ask_ollama(url: str, clock: Clock) -> FoundOllama | None:
    """Return what answers at `url` like an Ollama, or None; blocks for at most some seconds."""
    endpoint = Endpoint(url, clock)
    version = endpoint.call("GET", "/api/version", timeout_s=TIMEOUT_S)
    tags = endpoint.call("GET", "/api/tags", timeout_s=TIMEOUT_S)
    if version.status != OK or tags.status != OK:
        return None
    try:
        return FoundOllama(url, decode_version(version.body), decode_tags(tags.body))
    except ValueError:
        return None
