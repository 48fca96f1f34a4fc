"""docs/configuration.md tells every setting and every key, with its default, and no others."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from arriero.config import litellm_ignored, litellm_keys, settings, tree
from arriero.config.aliases import MODEL_KEYS
from arriero.config.masterkey import CREDENTIAL_NAME, LENGTH_MAX, LENGTH_MIN, VARIABLES
from arriero.config.ours import ACCESS_KEYS, KEYS
from arriero.config.reader import fields_of

PAGE = (Path(__file__).parent.parent.parent / "docs/configuration.md").read_text()

# The sections of the page, and the struct whose fields each tells.
SECTIONS: dict[str, type[msgspec.Struct]] = {
    "`backends`": settings.Backend,
    "`models`": settings.Model,
    "`models: backends`": settings.Route,
    "`models: limits`": settings.Limits,
    "`timeouts`": settings.Timeouts,
    "`server`": settings.Server,
    "`server: tls`": settings.Tls,
    "`routing`": settings.Routing,
    "`queue`": settings.Queueing,
    "`access`": settings.Access,
    "`store`": settings.Store,
    "`peers`": settings.Peers,
    "`log`": settings.Log,
}
# Required by the struct, and derived when a file does not give them.
DERIVED = {(settings.Backend, "name"), (settings.Route, "model")}
IGNORED = {
    "top level": litellm_ignored.TOP,
    "entries of `model_list`": litellm_ignored.ENTRY,
    "`router_settings`": litellm_ignored.ROUTER,
    "`general_settings`": litellm_ignored.GENERAL,
    "`litellm_settings`": litellm_ignored.LITELLM,
}


def section(title: str) -> str:
    """Return the text below a heading, up to the next heading of its level or above."""
    match = re.search(rf"^(#+) {re.escape(title)}\n", PAGE, re.MULTILINE)
    assert match, f"docs/configuration.md has no heading {title}"
    rest = PAGE[match.end() :]
    end = re.search(rf"^#{{1,{len(match[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str) -> dict[str, list[str]]:
    """Return the other cells of each table row that begins with a code word."""
    lines = re.findall(r"^\| `(\w+)` \|(.*)\|$", text, re.MULTILINE)
    return {key: [cell.strip() for cell in cells.split(" | ")] for key, cells in lines}


def written(cls: type[msgspec.Struct], field: inspect.Field) -> str:
    """Return a default as the page writes it."""
    if (cls, field.name) in DERIVED:
        return "derived"
    if field.required:
        return "required"
    default: Any = field.default if field.default is not msgspec.NODEFAULT else {}
    if default is None or isinstance(default, msgspec.Struct):
        return "none" if default is None else "its own"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


@pytest.mark.parametrize("title", SECTIONS)
def test_every_setting_is_told_with_its_default(title: str) -> None:
    cls = SECTIONS[title]
    fields = fields_of(cls, *(["routes"] if cls is settings.Model else []))
    told = rows(section(title))
    assert list(told) == list(fields)
    for name, field in fields.items():
        kind, default, meaning = told[name]
        assert default == written(cls, field), name
        assert kind, name
        assert meaning.endswith("."), name


def structs(cls: type[msgspec.Struct]) -> set[type[msgspec.Struct]]:
    """Return a struct and all structs below it."""
    found = {cls}
    for field in fields_of(cls).values():
        kinds: list[Any] = [field.type, *getattr(field.type, "types", ())]
        kinds += [kind.item_type for kind in kinds if isinstance(kind, inspect.VarTupleType)]
        for kind in kinds:
            if isinstance(kind, inspect.StructType):
                found |= structs(kind.cls)
    return found


def test_no_struct_is_left_out() -> None:
    assert structs(settings.Config) - {settings.Config} == set(SECTIONS.values())


def test_ranges_and_choices_are_told() -> None:
    for title, cls in SECTIONS.items():
        told = rows(section(title))
        for name, field in fields_of(cls).items():
            for kind in [field.type, *getattr(field.type, "types", ())]:
                if isinstance(kind, inspect.LiteralType):
                    assert told[name][0] == ", ".join(f"`{value}`" for value in kind.values)
                if isinstance(kind, inspect.IntType):
                    assert told[name][0] == f"integer, {kind.ge:,} to {kind.le:,}"


def test_top_level_and_special_keys_are_told() -> None:
    own = section("arriero's own vocabulary")
    for key in (*KEYS, *MODEL_KEYS, *ACCESS_KEYS):
        assert f"`{key}`" in own


def test_key_sources_and_limits_are_told() -> None:
    text = section("The master key")
    for word in (*VARIABLES, f"$CREDENTIALS_DIRECTORY/{CREDENTIAL_NAME}", "access.master_key_file"):
        assert word in text
    assert f"{LENGTH_MIN} to {LENGTH_MAX} " in text
    limits = section("Checking a file")
    assert f"{tree.DEPTH_MAX} levels" in limits
    assert f"{tree.NODES_MAX:,} values" in limits
    assert tree.FILE_BYTES_MAX == 1024 * 1024
    assert "1 MiB" in limits


def test_every_key_of_litellms_entries_is_told() -> None:
    text = section("Keys of entries")
    told = rows(text)
    assert list(told) == list(fields_of(litellm_keys.Deployment))
    assert all(len(cells) == 2 and all(cells) for cells in told.values())
    for name in fields_of(litellm_keys.Options):
        assert f"`{name}`" in text


def test_every_key_of_litellms_sections_is_told() -> None:
    expected = [
        "model_list",
        "router_settings",
        *fields_of(litellm_keys.RouterSettings),
        *litellm_keys.ROUTER_KEYS,
        "general_settings",
        *fields_of(litellm_keys.GeneralSettings),
        "litellm_settings",
        *(set(fields_of(litellm_keys.LitellmSettings)) - {"num_retries"}),
        "environment_variables",
    ]
    told = rows(section("Sections"))
    assert set(told) == set(expected)
    assert all(len(cells) == 2 and all(cells) for cells in told.values())
    assert set(litellm_keys.SECTIONS) <= set(expected)


def test_the_defaults_of_sections_are_ours() -> None:
    told = rows(section("Sections"))
    default = settings.Routing()
    assert told["routing_strategy"][0] == "`least-busy`"  # nearer to LiteLLM than our own default
    assert told["num_retries"][0] == f"`{default.retries}`"
    assert told["allowed_fails"][0] == f"`{default.failures_max - 1}`"
    assert told["cooldown_time"][0] == f"`{default.ejection_s:g}`"
    assert told["max_request_size_mb"][0] == f"`{settings.Server().body_bytes_max // 1024**2}`"


def test_every_provider_of_ones_own_is_told() -> None:
    text = section("LiteLLM's vocabulary")
    for provider in litellm_keys.OPENAI_PROVIDERS | litellm_keys.OLLAMA_PROVIDERS:
        assert f"`{provider}/" in text


@pytest.mark.parametrize("where", IGNORED)
def test_every_key_without_effect_is_told_with_the_reason(where: str) -> None:
    text = " ".join(section(f"Without effect: {where}").split())
    told: dict[str, str] = {}
    for bullet in text.removeprefix("- ").split(" - "):
        reason, _, keys = bullet.rpartition(": ")
        told |= dict.fromkeys(re.findall(r"`(\w+)`", keys), reason)
    assert told == IGNORED[where]


def test_refused_keys_are_told() -> None:
    text = section("What else a file may hold")
    for key in litellm_ignored.REFUSED:
        assert f"`{key}`" in text
