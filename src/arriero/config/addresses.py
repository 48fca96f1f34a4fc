"""Backend addresses: the base that is kept, and the name of a backend given by address only.

A name is the host's first label, `hx-llm01-server` for
`http://hx-llm01-server.dev-test.hana-x.ai:11434`, because that is what people call the machine.
The port joins it unless it is Ollama's own; the whole host name does when two hosts share a label.
So a name depends on nothing but the addresses in the file, and not on their order.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final

from arriero.config.forms import split_url
from arriero.config.reader import Place, Reader
from arriero.config.settings import BackendKind

_OLLAMA_PORT: Final = 11_434
_NAME_LENGTH_MAX: Final = 64


def base(reader: Reader, at: Place, url: str, kind: BackendKind) -> str | None:
    """Return the address without `/v1`, or None after telling what is wrong with its path.

    The API's own path is the dialect's business. Ollama has no other path than its own, while
    other servers may stand below one.
    """
    _, port, path = split_url(url)
    bare = url.removesuffix(path)
    if kind == "openai":
        return url.removesuffix("/v1").rstrip("/")
    if path:
        hint = f"write {bare}; Ollama is spoken to through its own API below /api"
        reader.error(at, f"an Ollama address has no path, and this one has `{path}`", hint)
        return None
    if port is None:
        default = 443 if url.startswith("https:") else 80
        hint = f"Ollama listens on {_OLLAMA_PORT}: {bare}:{_OLLAMA_PORT}"
        reader.note(at, f"the address names no port, so port {default} is used", hint)
    return bare


def derive_names(urls: Sequence[str], taken: Collection[str] = ()) -> list[str]:
    """Return a unique name for each checked address, none of them in `taken`."""
    short = [_name(url, whole=False) for url in urls]
    counts = Counter([*short, *taken])
    names: list[str] = []
    for url, name in zip(urls, short, strict=True):
        wanted = name if counts[name] == 1 else _name(url, whole=True)
        names.append(_numbered(wanted, {*taken, *names}))
    return names


def _name(url: str, *, whole: bool) -> str:
    host, port, _ = split_url(url)
    if ":" in host:
        host = "ipv6" + "".join(c if c.isalnum() else "-" for c in host)
    elif not whole and not host.replace(".", "").isdigit():
        host = host.partition(".")[0]
    suffix = "" if port in (None, _OLLAMA_PORT) else f"-{port}"
    return host.strip(".")[: _NAME_LENGTH_MAX - len(suffix)] + suffix


def _numbered(name: str, taken: set[str]) -> str:
    number = 2
    unique = name
    while unique in taken:
        suffix = f"-{number}"
        unique = name[: _NAME_LENGTH_MAX - len(suffix)] + suffix
        number += 1
    return unique
