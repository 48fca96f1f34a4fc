"""Loading as a whole: vocabularies, digests, merged notes, and whatever bytes may come."""

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from arriero.config import litellm_ignored, litellm_keys, settings
from arriero.config.load import Loaded, load
from arriero.config.problems import ConfigError
from arriero.config.reader import fields_of

Load = Callable[..., Loaded]
Mistakes = Callable[..., list[tuple[int, int, str]]]

FLEET = "backends: [http://a:11434]\nmodels: [{name: m}]\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("models: []\nmodel_list: []\n",
         (2, 1, "`model_list` and `models` are of two vocabularies")),
        ("router_settings: {}\nlog: {}\n",
         (2, 1, "`log` and `router_settings` are of two vocabularies")),
        ("- a\n", (1, 1, "the file must be a mapping with `backends` and `models`")),
        ("hello", (1, 1, "the file must be a mapping with `backends` and `models`")),
        ("", (1, 1, "the file is empty")),
    ],
)  # fmt: skip
def test_a_file_is_of_one_vocabulary(
    text: str, found: tuple[int, int, str], mistakes: Mistakes
) -> None:
    assert mistakes(text) == [found]


def test_a_file_of_neither_is_told_our_keys(hints: Callable[..., list[str | None]]) -> None:
    assert "did you mean `models`?" in hints("modles: []\n")


def test_the_digest_is_that_of_the_file(keyed: Load) -> None:
    assert keyed(FLEET).config.digest == hashlib.sha256(FLEET.encode()).hexdigest()


def test_notes_come_in_file_order_and_once(keyed: Load) -> None:
    entry = "  - {model_name: %s, litellm_params: {model: x, api_base: 'http://%s', rpm: 1}}\n"
    text = "model_list:\n" + entry % ("m", "a:1") + entry % ("m", "b:1") + entry % ("n", "c:1")
    notes = keyed(text).notes
    assert [(note.line, note.message) for note in notes] == [
        (2, "no provider prefix: taken for a model of Ollama (also lines 3, 4)"),
        (2, f"`rpm` has no effect: {litellm_ignored.ENTRY['rpm']} (also lines 3, 4)"),
    ]


def test_a_mistake_behind_an_anchor_is_told_once(mistakes: Mistakes) -> None:
    text = (
        "backends: [http://a:1]\nmodels:\n"
        "  - {name: m, timeouts: &t {load_s: 0}}\n  - {name: n, timeouts: *t}\n"
    )
    assert [(line, column) for line, column, _ in mistakes(text)] == [(3, 37)]


def test_notation_and_settings_are_judged_together(mistakes: Mistakes) -> None:
    text = FLEET + "log: {level: loud, level: info}\n"
    assert [column for _, column, _ in mistakes(text)] == [14, 20]


def unread(path: str) -> bytes:
    raise FileNotFoundError(2, "No such file or directory", path)


def judged(data: bytes) -> None:
    """Load, and let through what may come of it; anything else fails the test."""
    with contextlib.suppress(ConfigError):
        loaded = load("c.yaml", data, {"ARRIERO_MASTER_KEY": "correct-horse"}, unread)
        assert loaded.config.models
        assert loaded.config.backends


@given(st.binary(max_size=300))
def test_any_bytes_are_settings_or_mistakes(data: bytes) -> None:
    judged(data)


def keys() -> list[str]:
    """Return every key that either vocabulary knows."""
    structs = [settings.Config, settings.Backend, settings.Model, settings.Route, settings.Timeouts]
    structs += [settings.Server, settings.Tls, settings.Routing, settings.Access, settings.Log]
    known = {key for each in structs for key in fields_of(each)}
    theirs = [litellm_keys.Deployment, litellm_keys.RouterSettings, litellm_keys.GeneralSettings]
    known |= {key for each in theirs for key in fields_of(each)}
    known |= {"timeouts", "backends", "master_key_file", "telemetry", "rpm", "include", "unknown"}
    return sorted({*known, *litellm_keys.SECTIONS, *litellm_keys.ENTRY_SECTIONS})


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 100_000),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["http://a:11434", "http://a/v1", "ollama/m", "m", "a", "30s", "64MiB",
                     "least-busy", "openai", "os.environ/NOPE", "os.environ/ARRIERO_MASTER_KEY"]),
)  # fmt: skip
KEYS = keys()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5))
def test_any_document_is_settings_or_mistakes(document: dict[str, Any]) -> None:
    judged(yaml.safe_dump(document).encode())


EXAMPLES = [
    "examples/arriero.yaml",
    "examples/litellm.yaml",
    "tests/fixtures/config/spec-rendered.yaml",
]
ROOT = Path(__file__).parent.parent.parent


@given(st.sampled_from(EXAMPLES), st.data())
def test_damaged_files_are_settings_or_mistakes(name: str, data: st.DataObject) -> None:
    content = (ROOT / name).read_bytes()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 40)))
    judged(content[:start] + data.draw(st.binary(max_size=8)) + content[end:])


@given(st.sampled_from(EXAMPLES), st.data())
def test_any_value_in_place_of_a_good_one_is_settings_or_mistakes(
    name: str, data: st.DataObject
) -> None:
    document = yaml.safe_load((ROOT / name).read_bytes())
    places: list[tuple[Any, Any]] = []
    waiting: list[Any] = [document]
    while waiting:
        node = waiting.pop()
        steps = list(node) if isinstance(node, dict) else list(range(len(node)))
        places += [(node, step) for step in steps]
        waiting += [node[step] for step in steps if isinstance(node[step], (dict, list))]
    node, step = data.draw(st.sampled_from(places))
    node[step] = data.draw(VALUES)
    judged(yaml.safe_dump(document).encode())
