"""The generic reader: types, ranges, environment variables, and what it never shows."""

from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from arriero.config import tree
from arriero.config.reader import BAD, Reader, expected, fields_of
from arriero.config.settings import (
    Bytes,
    Config,
    KeepAlive,
    OptionValue,
    Seconds,
    Secret,
    Url,
)


class Inner(msgspec.Struct, frozen=True, kw_only=True):
    """A nested section."""

    path: str
    depth: int = 1


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One field of every type that settings use."""

    text: Annotated[str, Meta(min_length=1)] = "x"
    number: Annotated[int, Meta(ge=1, le=9)] = 1
    share: float = 1.0
    switch: bool = False
    choice: Literal["red", "green"] = "red"
    wait_s: Seconds = 1.0
    bytes_max: Bytes = 1024
    key: Secret | None = None
    keep: KeepAlive | None = None
    url: Url | None = None
    inner: Inner | None = None
    names: tuple[str, ...] = ()
    options: dict[str, OptionValue] = {}


def read(text: str, **environ: str) -> tuple[dict[str, Any], Reader]:
    node, problems = tree.parse(text.encode())
    assert not problems
    assert node is not None
    assert isinstance(node.value, dict)
    reader = Reader(environ)
    return reader.fields(node, node.value, fields_of(Sample)), reader


def told(text: str, **environ: str) -> list[tuple[int, int, str]]:
    return [(p.line, p.column, p.message) for p in read(text, **environ)[1].problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("text: abc", "abc"),
        ("number: 9", 9),
        ("share: 1", 1.0),
        ("switch: true", True),
        ("choice: green", "green"),
        ("wait_s: 2m", 120.0),
        ("bytes_max: 64KiB", 65_536),
        ("key: abc", Secret("abc")),
        ("key: null", None),
        ("keep: -1", -1),
        ("keep: 5m", "5m"),
        ("url: http://A/", "http://a"),
        ("inner: {path: p}", Inner(path="p")),
        ("names: [a, b]", ("a", "b")),
        ("options: {a: 1, b: 0.5, c: x, d: [s, t], e: true}",
         {"a": 1, "b": 0.5, "c": "x", "d": ("s", "t"), "e": True}),
    ],
)  # fmt: skip
def test_values_are_read_by_type(text: str, value: object) -> None:
    given, reader = read(text)
    assert not reader.problems
    (found,) = given.values()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("text: ''", 7, "`text` must be text, not empty text"),
        ("text: 5", 7, "`text` must be text, not `5`"),
        ("text: [a]", 7, "`text` must be text, not a list"),
        ("number: 0", 9, "`number` must be a whole number from 1 to 9, not `0`"),
        ("number: 10", 9, "`number` must be a whole number from 1 to 9, not `10`"),
        ("number: true", 9, "`number` must be a whole number from 1 to 9, not `true`"),
        ("number: 1.5", 9, "`number` must be a whole number from 1 to 9, not `1.5`"),
        ("share: .inf", 8, "`share` must be a number, not `.inf`"),
        ("switch: maybe", 9, "`switch` must be true or false, not `maybe`"),
        ("choice: blue", 9, "`choice` must be one of green, red, not `blue`"),
        ("choice:", 8, "`choice` must be one of green, red, not nothing"),
        ("wait_s: 0", 9, "`wait_s` must be a number above 0 and up to 2,678,400, not `0`"),
        ("wait_s: [1]", 9, "`wait_s` must be a single value, not a list"),
        ("url: nowhere", 6, "`url` must be an address with its scheme"),
        ("inner: {depth: 2}", 8, "`path` is missing"),
        ("inner: 5", 8, "`inner` must be a mapping of keys to values, not `5`"),
        ("names: a", 8, "`names` must be a list, not `a`"),
        ("names: [a, 5]", 12, "`names` must be text, not `5`"),
        ("txet: a", 1, "unknown key `txet`"),
    ],
)  # fmt: skip
def test_mistakes_are_told_at_their_place(text: str, column: int, message: str) -> None:
    assert told(text) == [(1, column, message)]


def test_long_values_are_cut() -> None:
    ((_, _, message),) = told(f"number: {'x' * 90}")
    assert message.endswith(f"not `{'x' * 40}...`")
    assert told(f"{'y' * 90}: 1")[0][2] == f"unknown key `{'y' * 40}...`"


def test_unions_name_all_their_types() -> None:
    ((_, column, message),) = told("options: {a: {b: c}}")
    assert column == 14
    assert message.endswith("a whole number, or a number, or text, or a list, not a mapping")


def test_all_mistakes_are_told_at_once() -> None:
    assert len(told("text: 5\nnumber: x\nwait_s: x\nfoo: 1\ninner: {}\n")) == 5


def test_a_bad_value_is_not_given() -> None:
    assert read("number: 10\nshare: 2")[0] == {"share": 2.0}


def test_hints_name_the_nearest_word() -> None:
    hints = [problem.hint for problem in read("choice: gren\nnumbr: 1\ntext: 1")[1].problems]
    assert hints == ["did you mean `green`?", "did you mean `number`?", 'put it into quotes: "1"']


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("text: os.environ/X", "8"),
        ("number: os.environ/X", 8),
        ("share: os.environ/X", 8.0),
        ("wait_s: os.environ/X", 8.0),
        ("key: os.environ/X", Secret("8")),
        ("names: [os.environ/X]", ("8",)),
    ],
)
def test_variables_stand_for_values_of_any_type(text: str, value: object) -> None:
    given, reader = read(text, X="8")
    assert not reader.problems
    assert list(given.values()) == [value]


def test_a_switch_and_a_choice_may_be_variables() -> None:
    given, _ = read("switch: os.environ/A\nchoice: os.environ/B", A="true", B="green")
    assert given == {"switch": True, "choice": "green"}


def test_a_variable_that_is_not_set_is_told() -> None:
    assert told("text: os.environ/NOPE") == [
        (1, 7, "the environment variable `NOPE` is not set"),
    ]


def test_values_of_variables_are_never_shown() -> None:
    ((_, _, message),) = told("number: os.environ/X", X="hunter2")
    assert message == "`number` must be a whole number from 1 to 9, not the value of $X"


def test_secrets_and_addresses_are_never_shown() -> None:
    messages = told("key: 31337\nurl: http://me:hunter2@host\n")
    assert [message for _, _, message in messages] == [
        "`key` must be text",
        "`url` must be an address without user and password",
    ]


def test_reading_says_bad_rather_than_none() -> None:
    node, _ = tree.parse(b"x")
    assert node is not None
    assert Reader({}).value(node, fields_of(Sample)["number"].type, "number") is BAD


def settable(cls: type[msgspec.Struct]) -> list[tuple[str, Any]]:
    """Return every field below `cls` with its type."""
    found = []
    for name, field in fields_of(cls).items():
        kinds = [field.type, *getattr(field.type, "types", ()), getattr(field.type, "item_type", 0)]
        for kind in kinds:
            if isinstance(kind, msgspec.inspect.StructType):
                found += settable(kind.cls)
        found.append((name, field.type))
    return found


def test_every_setting_has_a_form_for_its_unit_and_a_bound() -> None:
    for name, kind in settable(Config):
        forms = [(k.extra or {}).get("form") for k in [kind] if hasattr(k, "extra")]
        if name.endswith("_s"):
            assert forms == ["duration"], name
        elif "bytes" in name:
            assert forms == ["size"], name
        elif isinstance(kind, (msgspec.inspect.IntType, msgspec.inspect.FloatType)):
            assert kind.le is not None, name
            assert "from" in expected(kind), name
