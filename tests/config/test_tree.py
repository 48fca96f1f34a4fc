"""YAML to nodes: places, merges, duplicates, limits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.config import tree
from arriero.config.tree import DEPTH_MAX, FILE_BYTES_MAX, NODES_MAX, Node


def parsed(text: str) -> dict[str, tree.Entry]:
    node, problems = tree.parse(text.encode())
    assert not problems
    assert node is not None
    assert isinstance(node.value, dict)
    return node.value


def refusal(data: bytes) -> tuple[int, int, str]:
    node, problems = tree.parse(data)
    assert node is None
    (problem,) = problems
    return problem.line, problem.column, problem.message


def test_keys_and_values_know_their_places() -> None:
    entries = parsed("a: 1\nlonger:\n  - x\n  -   y\n")
    longer = entries["longer"]
    assert (entries["a"].line, entries["a"].column) == (1, 1)
    assert (entries["a"].node.line, entries["a"].node.column) == (1, 4)
    assert (longer.line, longer.column) == (2, 1)
    assert isinstance(longer.node.value, list)
    assert [(item.line, item.column) for item in longer.node.value] == [(3, 5), (4, 7)]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1", 1),
        ("0x10", 16),
        ("1_000", 1000),
        ("1.5", 1.5),
        ("true", True),
        ("no", False),
        ("~", None),
        ("", None),
        ('"1"', "1"),
        ("2024-01-01", "2024-01-01"),
        ("llama3:8b", "llama3:8b"),
        ("!!str 12", "12"),
        ("=", "="),
    ],
)
def test_scalars_mean_what_they_mean_to_pyyaml(written: str, value: object) -> None:
    found = parsed(f"a: {written}")["a"].node.value
    assert (found, type(found)) == (value, type(value))


def test_text_keeps_what_was_written() -> None:
    assert parsed("a: 0x10")["a"].node.text == "0x10"


def test_numbers_as_keys_are_text() -> None:
    assert set(parsed("1: a\nyes: b")) == {"1", "yes"}


def test_anchors_keep_the_place_of_their_definition() -> None:
    entries = parsed("a: &x\n  b: 1\nc: *x\n")
    assert entries["c"].node == entries["a"].node
    assert (entries["c"].node.line, entries["c"].node.column) == (1, 4)


def test_merge_keys_add_and_never_override() -> None:
    entries = parsed("a: &x {k: 1, l: 2}\nb: &y {l: 3, m: 4}\nc: {k: 0, <<: [*x, *y]}\n")
    merged = entries["c"].node.value
    assert isinstance(merged, dict)
    assert {key: entry.node.value for key, entry in merged.items()} == {"k": 0, "l": 2, "m": 4}


def test_merging_something_else_is_told() -> None:
    _, problems = tree.parse(b"a:\n  <<: 5\n")
    assert [(p.line, p.column) for p in problems] == [(2, 7)]


def test_duplicate_keys_are_told_each_at_its_place() -> None:
    node, problems = tree.parse(b"a: 1\nb: 2\na: 3\nc: {d: 1, d: 2}\n")
    assert node is not None
    assert [(p.line, p.column) for p in problems] == [(3, 1), (4, 11)]
    assert problems[0].message == "`a` is given twice; the first is in line 1"


@pytest.mark.parametrize(
    ("written", "column"),
    [
        ("!custom x", 4),
        ("!!python/object:os.system [x]", 4),
        ("!!set {x}", 4),
        ("!!int abc", 4),
        ('!!int ""', 4),
        ('!!float ""', 4),
        ("!!bool maybe", 4),
        ("9" * 5000, 4),
        ("{? [x] : y}", 7),
    ],
)
def test_what_configurations_do_not_need_is_told(written: str, column: int) -> None:
    node, problems = tree.parse(f"a: {written}".encode())
    assert node is not None
    assert [(p.line, p.column) for p in problems] == [(1, column)]


@pytest.mark.parametrize(
    ("data", "line", "column", "words"),
    [
        (b"", 1, 1, "empty"),
        (b"# nothing but a comment\n", 1, 1, "empty"),
        (b"a: b: c", 1, 5, "mapping values are not allowed"),
        (b"a:\n\tb: 1", 2, 1, r"\t"),
        (b"a: [1, 2", 1, 9, "expected"),
        (b"a: 1\n---\nb: 2\n", 2, 1, "a second document"),
        (b"a: \xff", 1, 4, "not UTF-8"),
        ("ä: 1\nü: \x07".encode(), 2, 4, "U+0007"),
        (b"a: &x [*x]", 1, 4, "deeper"),
    ],
)
def test_syntax_is_told_with_its_place(data: bytes, line: int, column: int, words: str) -> None:
    found = refusal(data)
    assert found[:2] == (line, column)
    assert words in found[2]


def test_names_of_aliases_and_tags_are_not_shown() -> None:
    assert "hunter2" not in refusal(b"key: *hunter2-secret")[2]
    assert "hunter2" not in refusal(b"key: !hunter2!secret x")[2]


def test_byte_order_mark_is_no_part_of_the_first_key() -> None:
    node, problems = tree.parse(b"\xef\xbb\xbfa: 1")
    assert not problems
    assert node is not None
    assert isinstance(node.value, dict)
    assert set(node.value) == {"a"}


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def test_depth_has_a_limit() -> None:
    assert tree.parse(nested(DEPTH_MAX - 1))[0] is not None
    assert tree.parse(nested(DEPTH_MAX))[0] is not None
    assert refusal(nested(DEPTH_MAX + 1)) == (
        1,
        DEPTH_MAX + 1,
        f"nested deeper than {DEPTH_MAX} levels",
    )
    assert refusal(b"[" * 100_000)[2] == f"nested deeper than {DEPTH_MAX} levels"


def test_file_size_has_a_limit() -> None:
    fits = b"a: 1\n#" + b"x" * (FILE_BYTES_MAX - 6)
    assert len(fits) == FILE_BYTES_MAX
    assert tree.parse(fits)[0] is not None
    assert "bytes" in refusal(fits + b"x")[2]


def test_alias_bombs_are_refused() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{b}: &{b} [{', '.join(['*' + a] * 10)}]" for a, b in zip("abcdef", "bcdefg", strict=True)
    ]
    assert f"more than {NODES_MAX:,} values" in refusal("\n".join(lines).encode())[2]


def test_merge_bombs_are_refused() -> None:
    many = ", ".join(f"k{n}: 1" for n in range(200))
    text = f"a: &a {{{many}}}\nb: {{<<: [{', '.join(['*a'] * 300)}]}}\n"
    assert f"more than {NODES_MAX:,} values" in refusal(text.encode())[2]


@pytest.mark.parametrize(
    ("text", "value"), [("8", 8), ("1.5", 1.5), ("true", True), ("a b", "a b"), ("", None)]
)
def test_plain_reads_as_an_unquoted_value(text: str, value: object) -> None:
    assert tree.plain(text) == value


def test_plain_returns_what_cannot_be_a_number_as_text() -> None:
    assert tree.plain("9" * 5000) == "9" * 5000


@given(st.binary(max_size=200))
def test_any_bytes_are_a_tree_or_problems(data: bytes) -> None:
    node, problems = tree.parse(data)
    assert isinstance(node, Node) or problems


@given(st.text(alphabet="ab01:-[]{},&*<!?|> \n\t\"'#%@", max_size=60))
def test_any_notation_is_a_tree_or_problems(text: str) -> None:
    node, problems = tree.parse(text.encode())
    assert isinstance(node, Node) or problems
    assert all(problem.line >= 1 and problem.column >= 1 for problem in problems)
