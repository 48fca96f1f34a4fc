"""Facts of the configuration file, read as the service would read it."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from arriero.app.doctor.facts import ConfigFile, File, Unit
from arriero.config.load import Loaded, load
from arriero.config.masterkey import CREDENTIAL_NAME
from arriero.config.problems import ConfigError, Problem
from arriero.config.settings import Config
from arriero.config.tree import FILE_BYTES_MAX

# Stands for a key that only the service may read. It is never used, and says nothing of the real.
UNREADABLE_KEY = b"only-the-service-may-read-this-key"
CREDENTIALS = "/run/arriero-doctor-credentials"
GIVEN = "/run/credentials"  # systemd.exec(5): what services were given, each in a folder of its own
ENVIRONMENT_BYTES_MAX = 65_536
ABOUT_KEY = re.compile(r"(?:the master key|the key in \S+) (.+)")


def read_file(path: Path, file: File | None, unit: Unit | None) -> ConfigFile:
    """Return what a file says, or all that is wrong with it."""
    try:
        with path.open("rb") as opened:
            data = opened.read(FILE_BYTES_MAX + 1)
    except OSError as wrong:
        return ConfigFile(file=file, error=f"cannot read {path}: {wrong.strerror or wrong}")
    plain = yaml_of(data)
    common: dict[str, Any] = {
        "file": file,
        "secret_inside": secret_inside(plain),
        "unprefixed": unprefixed(plain),
    }
    try:
        loaded = load(str(path), data, environment(unit), reader(path.parent, unit))
    except ConfigError as wrong:
        lines = [problem.render(str(path)).split("\n") for problem in wrong.problems]
        mistakes = tuple("; ".join(line.strip() for line in pair) for pair in lines)
        return ConfigFile(mistakes=mistakes, weak_key=about_key(wrong.problems), **common)
    return good(loaded, common)


def good(loaded: Loaded, common: dict[str, Any]) -> ConfigFile:
    """Return the facts of a configuration that can be run."""
    config = loaded.config
    return ConfigFile(
        digest=config.digest,
        host=config.server.host,
        port=config.server.port,
        routes=routes(config),
        weak_key=about_key(loaded.notes),
        **common,
    )


def routes(config: Config) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return address and model of every route to an Ollama, by alias."""
    urls = {backend.name: backend.url for backend in config.backends if backend.kind == "ollama"}
    return {
        model.name: tuple((urls[r.backend], r.model) for r in model.routes if r.backend in urls)
        for model in config.models
    }


def about_key(problems: list[Problem]) -> str | None:
    """Return what is said against the master key."""
    for problem in problems:
        if found := ABOUT_KEY.match(problem.message):
            return found[1]
    return None


def yaml_of(data: bytes) -> dict[str, Any]:
    """Return the file as plain YAML, empty where it is none; `load` tells its mistakes."""
    try:
        found = yaml.safe_load(data)
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def secret_inside(plain: dict[str, Any]) -> bool:
    """Return whether the key itself stands in the file, not only where it is."""
    for section in ("general_settings", "access"):
        inner = plain.get(section)
        key = inner.get("master_key") if isinstance(inner, dict) else None
        if isinstance(key, str) and not key.startswith("os.environ/"):
            return True
    return False


def unprefixed(plain: dict[str, Any]) -> tuple[str, ...]:
    """Return the models of a LiteLLM file that name no provider."""
    listed = plain.get("model_list")
    found: dict[str, None] = {}
    for entry in listed if isinstance(listed, list) else []:
        params = entry.get("litellm_params") if isinstance(entry, dict) else None
        if not isinstance(params, dict) or "custom_llm_provider" in params:
            continue
        model = params.get("model")
        if isinstance(model, str) and "/" not in model:
            found[model] = None
    return tuple(found)


def environment(unit: Unit | None) -> dict[str, str]:
    """Return the variables that the service would have, besides ours."""
    found = dict(os.environ)
    if unit is None:
        return found
    for pair in unit.properties.get("Environment", "").split():
        name, _, value = pair.partition("=")
        found[name] = value
    for line in unit.properties.get("EnvironmentFiles", "").splitlines():
        found |= environment_file(Path(line.partition(" (")[0].lstrip("-")))
    if credential(unit) or encrypted(unit):
        found["CREDENTIALS_DIRECTORY"] = CREDENTIALS
    return found


def environment_file(path: Path) -> dict[str, str]:
    """Return the variables of a file as systemd.exec(5) describes it, quotes taken off."""
    try:
        with path.open("rb") as opened:
            text = opened.read(ENVIRONMENT_BYTES_MAX).decode(errors="replace")
    except OSError:
        return {}
    lines = [line.strip() for line in text.splitlines()]
    pairs = [line.partition("=") for line in lines if "=" in line and line[0] not in "#;"]
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}


def credential(unit: Unit, setting: str = "LoadCredential") -> str | None:
    """Return the file that a unit's setting names for the master key."""
    for line in unit.properties.get(setting, "").split():
        name, _, path = line.partition(":")
        if name == CREDENTIAL_NAME:
            return path
    return None


def encrypted(unit: Unit) -> str | None:
    """Return the file of the unit's encrypted credential with the master key."""
    return credential(unit, "LoadCredentialEncrypted")


def reader(folder: Path, unit: Unit | None) -> Callable[[str], bytes]:
    """Return how files named in the configuration are read; the credential where it comes from."""

    def read(name: str) -> bytes:
        if unit is None or name != f"{CREDENTIALS}/{CREDENTIAL_NAME}":
            return _bytes(folder / name)
        try:
            return _key(unit)
        except PermissionError:
            return UNREADABLE_KEY

    return read


def _key(unit: Unit) -> bytes:
    """Return the master key of the unit's credential, as far as we may read it."""
    source = credential(unit)
    if source:
        return _bytes(Path(source))
    Path(encrypted(unit) or "").stat()
    try:
        return _bytes(Path(GIVEN) / unit.name / CREDENTIAL_NAME)
    except FileNotFoundError:
        return UNREADABLE_KEY  # the service does not run


def _bytes(path: Path) -> bytes:
    with path.open("rb") as opened:
        return opened.read(FILE_BYTES_MAX + 1)


def backend_urls(config: ConfigFile | None) -> list[str]:
    """Return the Ollama hosts of a configuration, each once."""
    found = config.routes.values() if config else ()
    return list(dict.fromkeys(url for routes_ in found for url, _ in routes_))
