"""YAML bytes to a small tree in which every key and value knows its place.

PyYAML composes; this module bounds what it may compose (bytes, depth, nodes after anchors are
expanded), so that neither a deeply nested file nor an alias bomb ("billion laughs") costs more
than a refusal. Duplicate keys are mistakes: YAML forbids them and PyYAML silently keeps the last.
"""

import re
from typing import Any, Final

import msgspec
import yaml

from arriero.config.problems import Problem

FILE_BYTES_MAX: Final = 1_048_576
DEPTH_MAX: Final = 24
NODES_MAX: Final = 50_000

Scalar = bool | int | float | str | None

_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = _TAG + "merge"
# Tags that a plain scalar gets on its own and that mean "text" to a configuration.
_TEXT_TAGS: Final = frozenset(_TAG + name for name in ("str", "timestamp", "value", "merge"))
_TYPED_TAGS: Final = {
    _TAG + "null": yaml.SafeLoader.construct_yaml_null,
    _TAG + "bool": yaml.SafeLoader.construct_yaml_bool,
    _TAG + "int": yaml.SafeLoader.construct_yaml_int,
    _TAG + "float": yaml.SafeLoader.construct_yaml_float,
}


class Node(msgspec.Struct, frozen=True):
    """A value at its place; `text` is a scalar as it was written, without quotes."""

    line: int
    column: int
    value: "Scalar | list[Node] | dict[str, Entry]"
    text: str = ""


class Entry(msgspec.Struct, frozen=True):
    """A mapping's entry: the place of its key, and its value."""

    line: int
    column: int
    node: Node


class _Refused(Exception):
    """The file is not worth reading on; carries the one problem that says why."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.message)


class _Loader(yaml.SafeLoader):
    """A composer that counts: PyYAML's own recursion would end in RecursionError."""

    depth = 0
    nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose one node unless the file is too deep or too long."""
        self.depth += 1
        self.nodes += 1
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call] # gap in the stubs
        _refuse_excess(event, self.depth, self.nodes)
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


def parse(data: bytes) -> tuple[Node | None, list[Problem]]:
    """Return the tree of one document, or None, and the mistakes of its notation."""
    builder = _Builder()
    try:
        root = builder.node(_compose(_decode(data)), 1)
    except _Refused as refused:
        return None, [refused.problem]
    return root, builder.problems


def plain(text: str) -> Scalar:
    """Return what an unquoted `text` would mean in the file; environment variables need it."""
    tag: str = _CONSTRUCTOR.resolve(yaml.ScalarNode, text, (True, False))
    value = _convert(yaml.ScalarNode(tag, text))
    return text if isinstance(value, _Unreadable) else value


class _Unreadable(msgspec.Struct, frozen=True):
    """Why a scalar has no value."""

    message: str
    hint: str


class _Builder:
    """Turns PyYAML's graph into our tree: anchors copied, merges done, duplicates told."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.nodes = 0

    def node(self, source: yaml.Node, depth: int) -> Node:
        """Return the tree below `source`, which may be reached by several aliases."""
        self.nodes += 1
        _refuse_excess(source, depth, self.nodes)
        line, column = _place(source)
        if isinstance(source, yaml.ScalarNode):
            return Node(line, column, self._scalar(source), source.value)
        if isinstance(source, yaml.SequenceNode):
            self._check_tag(source, "seq")
            return Node(line, column, [self.node(item, depth + 1) for item in source.value])
        assert isinstance(source, yaml.MappingNode), "YAML has three kinds of nodes"
        self._check_tag(source, "map")
        return Node(line, column, self._mapping(source, depth))

    def _scalar(self, source: yaml.ScalarNode) -> Scalar:
        value = _convert(source)
        if not isinstance(value, _Unreadable):
            return value
        self._problem(source, value.message, value.hint)
        return str(source.value)

    def _check_tag(self, source: yaml.Node, name: str) -> None:
        if source.tag != _TAG + name:
            self._problem(source, "YAML tags have no meaning here", "remove the tag (`!...`)")

    def _mapping(self, source: yaml.MappingNode, depth: int) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        merged: dict[str, Entry] = {}
        for key, value in source.value:
            if key.tag == _MERGE:
                self._merge(merged, value, depth)
            elif isinstance(key, yaml.ScalarNode):
                self._add(entries, key, self.node(value, depth + 1))
            else:
                self._problem(key, "a key must be plain text", "write `key: value`")
        return merged | entries

    def _add(self, entries: dict[str, Entry], key: yaml.ScalarNode, value: Node) -> None:
        line, column = _place(key)
        first = entries.get(key.value)
        if first is None:
            entries[key.value] = Entry(line, column, value)
            return
        message = f"`{key.value}` is given twice; the first is in line {first.line}"
        self._problem(key, message, "keep one of them")

    def _merge(self, merged: dict[str, Entry], value: yaml.Node, depth: int) -> None:
        """Take over the entries of `<<: *anchor` or `<<: [*a, *b]`; earlier ones win."""
        sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
        for source in sources:
            node = self.node(source, depth + 1)
            if isinstance(node.value, dict):
                merged.update({k: v for k, v in node.value.items() if k not in merged})
            else:
                self._problem(source, "`<<` takes a mapping or a list of mappings", None)

    def _problem(self, source: yaml.Node, message: str, hint: str | None) -> None:
        self.problems.append(Problem(*_place(source), message, hint))


def _convert(source: yaml.ScalarNode) -> "Scalar | _Unreadable":
    """Return a scalar's value by its tag, as PyYAML's safe loader would."""
    if source.tag in _TEXT_TAGS:
        return str(source.value)
    construct = _TYPED_TAGS.get(source.tag)
    if construct is None:
        return _Unreadable("YAML tags have no meaning here", "remove the tag (`!...`)")
    try:
        value: Scalar = construct(_CONSTRUCTOR, source)
    # PyYAML's constructors let slip what int(), float() and their own tables raise.
    except (ValueError, IndexError, KeyError, OverflowError):
        return _Unreadable("not a number or a switch that can be read", "quote it if it is text")
    return value


_CONSTRUCTOR: Final[Any] = yaml.SafeLoader("")


def _decode(data: bytes) -> str:
    if len(data) > FILE_BYTES_MAX:
        message = f"the file has {len(data):,} bytes; at most {FILE_BYTES_MAX:,} are read"
        raise _Refused(Problem(1, 1, message, "is this the right file?"))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _position(data[: error.start].decode("utf-8", "replace"))
        raise _Refused(
            Problem(line, column, "not UTF-8 text", "save the file again as UTF-8")
        ) from error


def _compose(text: str) -> yaml.Node:
    """Return PyYAML's graph of the one document in `text`."""
    try:
        composed = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        raise _Refused(_syntax_problem(error)) from error
    except yaml.reader.ReaderError as error:
        line, column = _position(text[: error.position])
        message = f"character U+{_code_point(error):04X} is not allowed in YAML"
        hint = "remove it, or save the file again as UTF-8"
        raise _Refused(Problem(line, column, message, hint)) from error
    if composed is None:
        raise _Refused(Problem(1, 1, "the file is empty", "start from examples/arriero.yaml"))
    return composed


def _refuse_excess(source: yaml.Node | yaml.Event, depth: int, nodes: int) -> None:
    message = ""
    if depth > DEPTH_MAX:
        message = f"nested deeper than {DEPTH_MAX} levels"
    elif nodes > NODES_MAX:
        message = f"more than {NODES_MAX:,} values once anchors are expanded"
    if message:
        raise _Refused(Problem(*_place(source), message, "no configuration needs that"))


def _syntax_problem(error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    # The names of aliases and tags may be the beginning of a secret that should have been quoted.
    said = re.sub(r"(alias|tag|handle|directive)\b.*", r"\1", error.problem or "no reason known")
    if said == "but found another document":
        hint = "remove the `---` and what follows it, or what is before it"
        return Problem(line, column, "a second document begins here", hint)
    return Problem(line, column, f"not valid YAML: {said}", _syntax_hint(said))


def _syntax_hint(said: str) -> str:
    if r"\t" in said:
        return "indent with spaces"
    return "check the indentation, and quote values that hold `: `, ` #` or begin with a sign"


def _position(before: str) -> tuple[int, int]:
    """Return line and column, from 1, of what follows the text `before`."""
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _code_point(error: yaml.reader.ReaderError) -> int:
    character = error.character
    return ord(character) if isinstance(character, str) else int(character)


def _place(source: yaml.Node | yaml.Event) -> tuple[int, int]:
    mark = source.start_mark
    assert mark is not None, "what was read from text knows its place"
    return mark.line + 1, mark.column + 1
