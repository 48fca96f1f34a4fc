"""The gateway's own vocabulary: `backends`, `models`, and the sections of settings.py as they are.

What is not special is read straight from the structs: `server`, `routing`, `log`, and any section
that settings.py gains. The rest is short forms: of backends (here) and of routes (`aliases.py`).
"""

from typing import Any, Final

from arriero.config import addresses, aliases, masterkey, reloads
from arriero.config.reader import BAD, Place, Reader, fields_of
from arriero.config.settings import Access, Backend, Config, Secret, Timeouts, Tls
from arriero.config.tree import Entry, Node

KEYS: Final = frozenset({*fields_of(Config), "timeouts"} - {"digest"})
ACCESS_KEYS: Final = ("master_key_file",)
_READ_HERE: Final = ("backends", "models", "timeouts", "access", "digest")
_TIMEOUTS: Final = fields_of(Timeouts)
_PATH: Final = fields_of(Tls)["certificate"].type
_NAME: Final = fields_of(Backend)["name"].type
_URL: Final = fields_of(Backend)["url"].type


def read(reader: Reader, root: Node, outside: masterkey.Outside) -> Config | None:
    """Return the configuration, or None when mistakes were told."""
    entries = reader.mapping(root, "the file")
    plain_sections = fields_of(Config, *_READ_HERE)
    sections = reader.fields(root, entries, plain_sections, known=KEYS - plain_sections.keys())
    timeouts = _timeouts(reader, entries.get("timeouts"))
    access = _access(reader, entries.get("access"), root, outside)
    backends, places = _backends(reader, _section(reader, root, entries, "backends"))
    models_node = _section(reader, root, entries, "models")
    models = aliases.read(reader, models_node, aliases.Base(tuple(places), timeouts))
    used = {route.backend for model in models for route in model.routes}
    for name in backends.keys() - used if models_node else ():
        reader.note(places[name], f"no model runs on backend `{name}`")
    if any(problem.severity == "error" for problem in reader.problems):
        return None
    nodes = reader.items(models_node, "models") if models_node else []
    at = dict(zip((model.name for model in models), nodes, strict=True))  # without mistakes: all
    reloads.tell(reader, backends.values(), models, at.__getitem__)
    return Config(
        backends=tuple(backends.values()), models=tuple(models), access=access, **sections
    )


def _section(reader: Reader, root: Node, entries: dict[str, Entry], key: str) -> Node | None:
    """Return a section without which there is nothing to serve."""
    entry = entries.get(key)
    if entry is not None and entry.node.value:
        return entry.node
    hint = {
        "backends": "backends: [http://localhost:11434]",
        "models": 'models: [{name: llama3, model: "llama3:8b"}]',
    }[key]
    reader.error(entry or root, f"no {key}: there is nothing to serve", hint)
    return None


def _timeouts(reader: Reader, entry: Entry | None) -> Timeouts:
    if entry is None:
        return Timeouts()
    return Timeouts(**reader.fields(entry, reader.mapping(entry.node, "timeouts"), _TIMEOUTS))


def _access(reader: Reader, entry: Entry | None, root: Node, outside: masterkey.Outside) -> Access:
    entries = reader.mapping(entry.node, "access") if entry else {}
    at: Place = entry or root
    given = reader.fields(at, entries, fields_of(Access), known=ACCESS_KEYS)
    key, file = entries.get("master_key"), entries.get("master_key_file")
    path = reader.value(file.node, _PATH, "master_key_file") if file else None
    if path is BAD or (key is not None and "master_key" not in given):
        return Access()
    secret: Secret | None = given.get("master_key")
    if secret is not None and file is not None:
        reader.error(file, "`master_key` and `master_key_file` are both given", "keep one of them")
        return Access()
    place: Place = key.node if key else file.node if file else at
    given["master_key"] = masterkey.find(reader, outside, place, given=secret, file=path)
    return Access(**given)


def _backends(reader: Reader, section: Node | None) -> tuple[dict[str, Backend], dict[str, Place]]:
    """Return the good backends by name, and the places of all names, good or bad."""
    listed = [_backend_fields(reader, *pair) for pair in _listed(reader, section)]
    unnamed = [given["url"] for _, given in listed if not given["name"] and "url" in given]
    taken = [given["name"] for _, given in listed]
    derived = iter(addresses.derive_names(unnamed, taken))
    backends: dict[str, Backend] = {}
    places: dict[str, Place] = {}
    for place, given in listed:
        if "url" in given:
            given["name"] = given["name"] or next(derived)
        name = given["name"]
        if name in places:
            first = places[name].line
            reader.error(place, f"backend `{name}` is given twice; the first is in line {first}")
        elif name:
            places[name] = place
            backends |= {name: Backend(**given)} if "url" in given else {}
    return backends, places


def _listed(reader: Reader, section: Node | None) -> list[tuple[str, Node]]:
    """Return the backends of a list, or of a mapping by name."""
    if section is None:
        return []
    if not isinstance(section.value, dict):
        return [("", node) for node in reader.items(section, "backends")]
    pairs = []
    for name, entry in section.value.items():
        written = Node(entry.line, entry.column, name, name)
        if reader.value(written, _NAME, "name") is not BAD:
            pairs.append((name, entry.node))
    return pairs


def _backend_fields(reader: Reader, name: str, node: Node) -> tuple[Place, dict[str, Any]]:
    """Return a backend's values; without `url` among them it is not to be built."""
    place: Place = node
    if isinstance(node.value, dict):
        given = reader.fields(node, node.value, fields_of(Backend), defaults={"name": name})
        url = node.value.get("url")
        place = url.node if url else node
    else:
        given = {"name": name, "url": reader.value(node, _URL, "url")}
        if given["url"] is BAD:
            del given["url"]
    if given.get("api_key") == Secret(""):
        given["api_key"] = None
    if "url" in given:
        address = addresses.base(reader, place, given.pop("url"), given.get("kind", "ollama"))
        given |= {"url": address} if address else {}
    return node, given
