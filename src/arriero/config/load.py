"""A configuration file's bytes to settings, in either vocabulary, or all its mistakes at once."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Final, Literal

import msgspec

from arriero.config import litellm, ours, tree
from arriero.config.masterkey import Outside
from arriero.config.problems import ConfigError, Problem
from arriero.config.reader import Reader
from arriero.config.settings import Config
from arriero.config.tree import Node

Vocabulary = Literal["arriero", "litellm"]


class Loaded(msgspec.Struct, frozen=True):
    """A good configuration, what there is to say about it, and how it was written."""

    config: Config
    notes: list[Problem]
    vocabulary: Vocabulary


def load(
    path: str, data: bytes, environ: Mapping[str, str], read_file: Callable[[str], bytes]
) -> Loaded:
    """Return the settings in `data`.

    Args:
        path: What messages call the file.
        data: The file.
        environ: The environment variables, for `os.environ/NAME` and the master key.
        read_file: Returns another file's bytes or raises OSError; for master key files only.

    Raises:
        ConfigError: The file must not be run; holds every mistake found in it.
    """
    reader = Reader(environ)
    root, mistakes = tree.parse(data)
    reader.problems += mistakes
    config, vocabulary = None, None
    if root is not None:
        vocabulary = _vocabulary(reader, root)
    if root is not None and vocabulary is not None:
        read = _READERS[vocabulary]
        config = read(reader, root, Outside(environ, read_file))
    errors = [problem for problem in reader.problems if problem.severity == "error"]
    if errors or config is None or vocabulary is None:
        raise ConfigError(path, _unrepeated(errors))
    config = msgspec.structs.replace(config, digest=hashlib.sha256(data).hexdigest())
    return Loaded(config, _merged(reader.problems), vocabulary)


_READERS: Final[dict[Vocabulary, Callable[[Reader, Node, Outside], Config | None]]] = {
    "arriero": ours.read,
    "litellm": litellm.read,
}


def _vocabulary(reader: Reader, root: Node) -> Vocabulary | None:
    """Say in which vocabulary the file is written, by its top-level keys."""
    if not isinstance(root.value, dict):
        reader.error(root, "the file must be a mapping with `backends` and `models`")
        return None
    written = [key for key in root.value if key in ours.KEYS]
    foreign = [key for key in root.value if key in litellm.KEYS]
    if written and foreign:
        first, second = sorted((written[0], foreign[0]), key=list(root.value).index)
        reader.error(
            root.value[second],
            f"`{second}` and `{first}` are of two vocabularies",
            "write the file in one: LiteLLM's (model_list, ...) or arriero's (models, ...)",
        )
        return None
    return "litellm" if foreign else "arriero"


def _unrepeated(errors: list[Problem]) -> list[Problem]:
    """Return the errors without repetitions: what an anchor holds is read wherever it is used."""
    return list({(*error.order, error.hint): error for error in errors}.values())


def _merged(notes: list[Problem]) -> list[Problem]:
    """Return the notes in file order, each message once with the lines it is repeated in."""
    found: dict[tuple[str, str | None], list[Problem]] = {}
    for note in sorted(notes, key=lambda note: note.order):
        found.setdefault((note.message, note.hint), []).append(note)
    return [_with_lines(same) for same in found.values()]


def _with_lines(same: list[Problem]) -> Problem:
    first = same[0]
    lines = sorted({note.line for note in same} - {first.line})
    if not lines:
        return first
    also = f"{first.message} (also line{'s' * (len(lines) > 1)} {', '.join(map(str, lines))})"
    return msgspec.structs.replace(first, message=also)
