"""Style as a test: sizes, purposes, reasons, and nothing that only one machine knows.

The limits are there so that a reader holds a file in the head; whoever meets one splits the thing
by meaning rather than by lines.
"""

import ast
import re
import statistics
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

FILE_LINES_MAX = {"src": 500, "tests": 800, "benchmarks": 500, "lab": 500}
FUNCTION_LINES_MAX = {"src": 60, "tests": 80, "benchmarks": 60, "lab": 60}
FILE_LINES_MEDIAN_MAX = 150
FUNCTION_LINES_MEDIAN_MAX = 10

# Where "anything at all" may be caught, and why. Nowhere else: an exception nobody expected is a
# defect, and a defect that is caught is one that nobody mends.
BROAD_EXCEPT = {
    "src/arriero/server/asgi.py": "handed to the exchange, which answers and logs it",
    "src/arriero/server/exchange.py": "one request's defect must not end the other connections",
    "src/arriero/testing/http.py": "one handler's defect is told when the simulation ends",
}

# Words that show the reader a promise instead of the work. Written apart, as this file is read too.
UNFINISHED = re.compile(r"\b(?:FIX" r"ME|TO" r"DO|XX" r"X|HA" r"CK)\b")

# What only the writer's machine or network knows.
LOCAL = re.compile(
    r"(?<![\w./-])/(?:root|home/(?!litellm\b)\w+|work|tmp/\w+|opt/wheels)/"
    r"|files\.python"
    r"hosted\.org|pypi\.(?:org|python\.org)/(?:simple|packages)"
    r"|registry\.npm"
    r"js\.org|(?:static\.)?crates\.io/|proxy\.golang\.org|index-url|find-links",
)
# Files that must say such a thing, and why.
LOCAL_ALLOWED = {
    "scripts/lock": "names the options that keep an index address out of the locks",
    "tests/test_tidy.py": "holds the patterns",
}


def tracked_files() -> list[Path]:
    """Return the files git knows or would add, without those deleted in the work tree."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [
        path for name in sorted(set(listed.split("\0"))) if name and (path := ROOT / name).is_file()
    ]


def python_files(*folders: str) -> list[Path]:
    return [
        path
        for path in tracked_files()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in folders
    ]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), filename=str(path))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(node: ast.stmt) -> int:
    """Return a definition's lines, docstring included and decorators not."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def length_without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return length(node) - (length(first) if is_text else 0)


def file_lengths(folder: str) -> dict[str, int]:
    return {name_of(p): len(p.read_bytes().splitlines()) for p in python_files(folder)}


@pytest.mark.parametrize("folder", FILE_LINES_MAX)
def test_files_fit_in_a_head(folder: str) -> None:
    long = {n: lines for n, lines in file_lengths(folder).items() if lines > FILE_LINES_MAX[folder]}
    assert not long


@pytest.mark.parametrize("folder", FUNCTION_LINES_MAX)
def test_functions_fit_on_a_screen(folder: str) -> None:
    long = {
        f"{name_of(path)}:{node.lineno} {node.name}": length(node)
        for path in python_files(folder)
        for node in functions(path)
        if length(node) > FUNCTION_LINES_MAX[folder]
    }
    assert not long


def test_most_files_and_functions_are_small() -> None:
    files = [lines for lines in file_lengths("src").values() if lines > 1]
    bodies = [length_without_docstring(n) for p in python_files("src") for n in functions(p)]
    assert statistics.median(files) <= FILE_LINES_MEDIAN_MAX
    assert statistics.median(bodies) <= FUNCTION_LINES_MEDIAN_MAX


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        name_of(path)
        for path in python_files("src", "benchmarks", "lab")
        if len((ast.get_docstring(parsed(path)) or "").split()) < 3
    ]
    assert not silent


def test_nothing_is_left_unfinished() -> None:
    found = [
        f"{name_of(path)}:{number}"
        for path in python_files("src", "tests", "benchmarks", "lab")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert not found


def broad_handlers(path: Path) -> Iterator[int]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "BaseException"
            if re.search(r"\b(?:Base)?Exception\b", caught):
                yield node.lineno


def test_only_the_listed_places_catch_everything() -> None:
    broad = {name_of(p): list(broad_handlers(p)) for p in python_files("src")}
    assert {name for name, lines in broad.items() if lines} == set(BROAD_EXCEPT), broad


@pytest.mark.parametrize(
    ("line", "good"),
    [
        ("x = 1  # noqa: E501", False),
        ("x = 1  # noqa", False),
        ("x = 1  # noqa: E501 a table reads better on one line", True),
        ("x = 1  # noqa: S104 - a reason", True),
        ("x = 1  # type: ignore[misc]", False),
        ("x = 1  # type: ignore[misc]  # typeshed lacks it", True),
    ],
)
def test_the_rule_for_silenced_checks(line: str, *, good: bool) -> None:
    assert bool(silenced_without_reason(line)) is not good


def silenced_without_reason(line: str) -> re.Match[str] | None:
    """Match a `noqa` or `type: ignore` that lacks its code or four letters of a reason."""
    return re.search(
        r"# (?:noqa(?!: [A-Z]+\d+(?:, ?[A-Z]+\d+)*\W+\w{1,}.{3})"
        r"|type: ignore(?!\[[\w, -]+\]\W+\w.{3})"
        r"|pragma: no cover(?!\W+\w.{3}))",
        line,
    )


def test_a_silenced_check_has_a_code_and_a_reason() -> None:
    found = [
        f"{name_of(path)}:{number}"
        for path in python_files("src", "tests", "benchmarks", "lab")
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if silenced_without_reason(line)
    ]
    assert not found


def text_of(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""


def test_nothing_names_one_machine_or_a_registry() -> None:
    found = [
        f"{name_of(path)}:{number}: {match[0]}"
        for path in tracked_files()
        if name_of(path) not in LOCAL_ALLOWED
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if (match := LOCAL.search(line))
    ]
    assert not found


def test_the_exceptions_are_still_needed() -> None:
    for name in LOCAL_ALLOWED:
        assert LOCAL.search((ROOT / name).read_text()), f"{name} needs no exception any more"
    for name in BROAD_EXCEPT:
        assert list(broad_handlers(ROOT / name)), f"{name} needs no exception any more"


def test_scripts_can_be_run() -> None:
    for path in tracked_files():
        if name_of(path).startswith((".ci/", "scripts/")) and path.read_bytes().startswith(b"#!"):
            assert path.stat().st_mode & 0o111, f"{name_of(path)} is not executable"
