"""Nodes to values by type: one reader for every struct of both vocabularies.

The keys, types, ranges and forms come from the structs themselves (`msgspec.inspect`), so a new
setting needs no line here. Mistakes are collected, never raised: a file is judged whole.
"""

import math
import re
from collections.abc import Callable, Collection, Mapping
from enum import Enum
from functools import cache
from typing import Any, Final, Literal, Protocol

import msgspec
from msgspec import inspect

from arriero.config import suggest, tree
from arriero.config.forms import FORMS, NotThisForm
from arriero.config.problems import Problem
from arriero.config.settings import Secret
from arriero.config.tree import Entry, Node, Scalar

ENVIRONMENT_PREFIX: Final = "os.environ/"
_SHOWN_MAX: Final = 40


class Place(Protocol):
    """Anything that stands somewhere in the file."""

    @property
    def line(self) -> int:
        """Count from 1."""

    @property
    def column(self) -> int:
        """Count from 1."""


class _Bad(Enum):
    """The value of what could not be read; its problem is already told."""

    BAD = "bad"


BAD: Final = _Bad.BAD
Bad = Literal[_Bad.BAD]


class Reader:
    """Reads nodes into values and keeps what it had to say about them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[Problem] = []

    def error(self, at: Place, message: str, hint: str | None = None) -> None:
        """Tell a mistake."""
        self.problems.append(Problem(at.line, at.column, message, hint))

    def note(self, at: Place, message: str, hint: str | None = None) -> None:
        """Tell what works otherwise than the file may lead to think."""
        self.problems.append(Problem(at.line, at.column, message, hint, "note"))

    def unknown(self, entry: Place, key: str, right: Collection[str]) -> None:
        """Tell a key that means nothing."""
        self.error(entry, f"unknown key `{_cut(key)}`", suggest.hint(key, right))

    def mapping(self, node: Node, name: str) -> dict[str, Entry]:
        """Return a mapping's entries; an empty section counts as an empty mapping."""
        if isinstance(node.value, dict):
            return node.value
        if node.value is not None:
            self.error(node, f"`{name}` must be a mapping of keys to values")
        return {}

    def items(self, node: Node, name: str) -> list[Node]:
        """Return a list's items."""
        if isinstance(node.value, list):
            return node.value
        if node.value is not None:
            self.error(node, f"`{name}` must be a list", "begin each item with `- `")
        return []

    def fields(
        self,
        at: Place,
        entries: Mapping[str, Entry],
        accepted: Mapping[str, inspect.Field],
        *,
        known: Collection[str] = (),
        defaults: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return the readable values of `entries` by the fields they are accepted for.

        `known` names keys that the caller reads itself; `defaults` are values for fields that are
        not given. What is missing is told at `at`.
        """
        given = dict(defaults or {})
        for key, entry in entries.items():
            if key in accepted:
                value = self.value(entry.node, accepted[key].type, key)
                if value is not BAD:
                    given[key] = value
            elif key not in known:
                self.unknown(entry, key, {*accepted, *known})
        for name, field in accepted.items():
            if field.required and name not in given and name not in entries:
                self.error(at, f"`{name}` is missing")
        return given

    def value(self, node: Node, kind: inspect.Type, name: str) -> Any:
        """Return the node as `kind`, or BAD after telling why not."""
        resolved = self.resolved(node)
        if resolved is BAD:
            return BAD
        read: _Read = _READERS.get(type(kind), Reader._scalar)
        return read(self, resolved, kind, name)

    def resolved(self, node: Node) -> "Node | Bad":
        """Return the node with `os.environ/NAME` replaced by that variable's value."""
        text = node.value
        if not isinstance(text, str) or not text.startswith(ENVIRONMENT_PREFIX):
            return node
        name = text.removeprefix(ENVIRONMENT_PREFIX)
        value = self.environ.get(name)
        if value is None:
            hint = f"set {name} for the service, for example in its EnvironmentFile"
            self.error(node, f"the environment variable `{name}` is not set", hint)
            return BAD
        return _FromEnvironment(node.line, node.column, value, value, name)

    def _bad(self, node: Node, name: str, expected: str, hint: str | None = None) -> Bad:
        self.error(node, f"`{name}` must be {expected}, not {_shown(node)}", hint)
        return BAD

    def _struct(self, node: Node, kind: inspect.StructType, name: str) -> Any:
        if not isinstance(node.value, dict):
            return self._bad(node, name, "a mapping of keys to values")
        before = len(self.problems)
        given = self.fields(node, node.value, fields_of(kind.cls))
        told = any(problem.severity == "error" for problem in self.problems[before:])
        return BAD if told else kind.cls(**given)

    def _tuple(self, node: Node, kind: inspect.VarTupleType, name: str) -> Any:
        if not isinstance(node.value, list):
            return self._bad(node, name, "a list")
        values = [self.value(item, kind.item_type, name) for item in node.value]
        return BAD if any(value is BAD for value in values) else tuple(values)

    def _dict(self, node: Node, kind: inspect.DictType, name: str) -> Any:
        if not isinstance(node.value, dict):
            return self._bad(node, name, "a mapping of keys to values")
        values = {k: self.value(e.node, kind.value_type, k) for k, e in node.value.items()}
        return BAD if any(value is BAD for value in values.values()) else values

    def _union(self, node: Node, kind: inspect.UnionType, name: str) -> Any:
        kinds = [each for each in kind.types if not isinstance(each, inspect.NoneType)]
        if node.value is None and len(kinds) < len(kind.types):
            return None
        value = _typed(node, kinds[0])
        for each in kinds:
            if len(kinds) == 1 or _fits(value, each):
                return self.value(node, each, name)
        return self._bad(node, name, ", or ".join(expected(each) for each in kinds))

    def _form(self, node: Node, kind: inspect.Metadata, name: str) -> Any:
        extra = kind.extra or {}
        if "words" in extra:
            return self._scalar(node, kind.type, name, extra["words"])
        form = FORMS[extra["form"]]
        if isinstance(node.value, (list, dict)):
            return self._bad(node, name, "a single value")
        try:
            value = form(node.value)
        except NotThisForm as refused:
            if form is FORMS["url"]:
                self.error(node, f"`{name}` must be {refused.expected}", refused.hint)
                return BAD
            return self._bad(node, name, refused.expected, refused.hint)
        if not _within(value, kind.type):
            return self._bad(node, name, expected(kind.type))
        return value

    def _secret(self, node: Node, kind: inspect.CustomType, name: str) -> Any:
        assert kind.cls is Secret, "secrets are the one custom type of the settings"
        if isinstance(node.value, str):
            return Secret(node.value)
        # The value is not shown: a bare number may well be the secret itself.
        self.error(node, f"`{name}` must be text", "put it into quotes")
        return BAD

    def _scalar(self, node: Node, kind: inspect.Type, name: str, words: str = "") -> Any:
        value = _typed(node, kind)
        if not _fits(value, kind) or not _within(value, kind):
            return self._bad(node, name, words or expected(kind), _scalar_hint(node, value, kind))
        return float(value) if isinstance(kind, inspect.FloatType) else value


class _FromEnvironment(Node, frozen=True):
    """A scalar whose text came from an environment variable, and is not to be shown."""

    variable: str = ""


_Read = Callable[[Reader, Node, Any, str], Any]
_READERS: Final[dict[type, _Read]] = {
    inspect.StructType: Reader._struct,  # noqa: SLF001 - the table of the class above
    inspect.VarTupleType: Reader._tuple,  # noqa: SLF001 - likewise
    inspect.DictType: Reader._dict,  # noqa: SLF001 - likewise
    inspect.UnionType: Reader._union,  # noqa: SLF001 - likewise
    inspect.Metadata: Reader._form,  # noqa: SLF001 - likewise
    inspect.CustomType: Reader._secret,  # noqa: SLF001 - likewise
}


@cache
def fields_of(cls: type[msgspec.Struct], *without: str) -> dict[str, inspect.Field]:
    """Return a struct's fields by name, but for those that a file does not set."""
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)
    return {field.name: field for field in info.fields if field.name not in without}


def expected(kind: inspect.Type) -> str:
    """Return words for what is allowed, to follow "must be"."""
    if isinstance(kind, inspect.LiteralType):
        return "one of " + ", ".join(str(value) for value in kind.values)
    if isinstance(kind, inspect.IntType):
        return "a whole number" + _range_words(kind)
    if isinstance(kind, inspect.FloatType):
        return "a number" + _range_words(kind)
    return _WORDS.get(type(kind), "of another type")


_WORDS: Final[dict[type, str]] = {
    inspect.BoolType: "true or false",
    inspect.StrType: "text",
    inspect.VarTupleType: "a list",
    inspect.DictType: "a mapping",
}


def _range_words(kind: inspect.IntType | inspect.FloatType) -> str:
    low, high = kind.ge, kind.le
    if kind.gt is not None:
        return f" above {kind.gt:g}" + ("" if high is None else f" and up to {high:,}")
    if low is not None and high is not None:
        return f" from {low:,} to {high:,}"
    return ""


def _typed(node: Node, kind: inspect.Type) -> Any:
    """Return a node's value; one from the environment is text, and a number where one is due."""
    if isinstance(node, _FromEnvironment) and not isinstance(kind, inspect.StrType):
        return tree.plain(node.text)
    return node.value


def _fits(value: Any, kind: inspect.Type) -> bool:
    """Say whether a value has the Python type of `kind`; True is not a number here."""
    if isinstance(kind, inspect.LiteralType):
        return isinstance(value, str) and value in kind.values
    if isinstance(kind, inspect.FloatType):
        return type(value) in (int, float) and math.isfinite(value)
    wanted = _PYTHON_TYPES.get(type(kind))
    return wanted is not None and type(value) is wanted


_PYTHON_TYPES: Final[dict[type, type]] = {
    inspect.BoolType: bool,
    inspect.IntType: int,
    inspect.StrType: str,
    inspect.VarTupleType: list,
}


def _within(value: Any, kind: inspect.Type) -> bool:
    """Say whether a value of the right type is in the range its type declares."""
    if isinstance(kind, inspect.StrType):
        long_enough = len(value) >= (kind.min_length or 0)
        short_enough = kind.max_length is None or len(value) <= kind.max_length
        return (
            long_enough
            and short_enough
            and (kind.pattern is None or re.search(kind.pattern, value) is not None)
        )
    if isinstance(kind, (inspect.IntType, inspect.FloatType)):
        low = -math.inf if kind.ge is None else kind.ge
        high = math.inf if kind.le is None else kind.le
        return bool(low <= value <= high and (kind.gt is None or value > kind.gt))
    return True


def _scalar_hint(node: Node, value: Any, kind: inspect.Type) -> str | None:
    if isinstance(kind, inspect.LiteralType) and isinstance(value, str):
        return suggest.hint(value, [str(each) for each in kind.values])
    if isinstance(kind, inspect.StrType) and isinstance(value, (bool, int, float)):
        return f'put it into quotes: "{node.text}"'
    if value is None:
        return "give a value, or remove the line"
    return None


def _shown(node: Node) -> str:
    """Return what stands in the file, short; what came from the environment is not shown."""
    if isinstance(node, _FromEnvironment):
        return f"the value of ${node.variable}"
    value: Scalar | list[Node] | dict[str, Entry] = node.value
    if value is None:
        return "nothing"
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "a mapping"
    return f"`{_cut(node.text)}`" if node.text.strip() else "empty text"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "..."
