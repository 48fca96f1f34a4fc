"""The documents tell what is true: commands, options, links, the version.

`python tests/test_docs.py` (scripts/docs) writes docs/cli.md anew.
"""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from arriero import __version__
from arriero.cli.main import app

ROOT = Path(__file__).parent.parent
CLI_PAGE = ROOT / "docs/cli.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])

SOURCES = (ROOT, ROOT / "src/arriero")

PREFACE = """\
# The command line

Made from the program by `scripts/docs`; `arriero COMMAND --help` says the same.

Data goes to stdout, words to stderr. `NO_COLOR` is honoured. Exit codes: 0 good, 1 problems found,
2 wrong use, 3 cannot tell (something that had to answer did not).
"""


# Typer's commands come from a library it ships privately, so there is no public type to name.
def commands(group: Any, path: str = "arriero") -> dict[str, Any]:
    """Return every command that can be called, by its full name."""
    found: dict[str, Any] = {}
    names = group.list_commands(None) if hasattr(group, "list_commands") else []
    for name in names:
        command = group.get_command(None, name)
        if not command.hidden:
            found |= commands(command, f"{path} {name}") or {f"{path} {name}": command}
    return found


def default_of(option: Any) -> str:
    shown = option.default
    if shown is None or shown == "" or shown is False or callable(shown):
        return ""
    values = shown if isinstance(shown, list | tuple) else [shown]
    return ", ".join(f"`{value}`" for value in values)


def row(option: Any) -> str:
    if option.param_type_name == "argument":
        name = f"`{option.metavar or option.name.upper()}`"
    else:
        value = "" if option.is_flag else f" {option.metavar or 'VALUE'}"
        name = ", ".join(f"`{text}{value}`" for text in [*option.opts, *option.secondary_opts])
    meaning = " ".join((option.help or "").split())
    environment = f" (or `${option.envvar}`)" if option.envvar else ""
    return f"| {name} | {meaning}{environment} | {default_of(option)} |"


def section(name: str, command: Any) -> str:
    text = "\n\n".join(" ".join(p.split()) for p in (command.help or "").split("\n\n"))
    rows = [row(option) for option in command.params if not getattr(option, "hidden", False)]
    table = "\n".join(["| option | meaning | default |", "|---|---|---|", *rows]) if rows else ""
    return f"## `{name}`\n\n{text}\n\n{table}".rstrip() + "\n"


def cli_page() -> str:
    found = commands(typer.main.get_command(app))
    return "\n".join([PREFACE, *(section(name, command) for name, command in found.items())])


def test_the_command_line_page_is_what_the_program_says() -> None:
    assert CLI_PAGE.read_text() == cli_page(), "run scripts/docs"


def test_every_command_and_option_says_what_it_is_for() -> None:
    for name, command in commands(typer.main.get_command(app)).items():
        assert command.help, name
        for option in command.params:
            assert option.help, f"{name} {option.name}"


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ +(.+?) *$", text, flags=re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)


def broken_links(page: Path) -> list[str]:
    text = page.read_text()
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", without_code(text)):
        link = target[0] or target[1]
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        file = page.parent / name if name else page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    assert not broken_links(page)


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A title\n[a](#a-title) [b](#b) [c](page.md#a-title) [d](no.md) `[e](no.md)`")
    assert broken_links(page) == ["#b", "no.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_tests_named_exist(page: Path) -> None:
    sources = "\n".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", page.read_text())
    assert not [name for name in named if f"def {name}(" not in sources]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_modules_named_exist(page: Path) -> None:
    named = re.findall(r"`((?:[a-z]\w*/)+\w+\.py)`", page.read_text())
    absent = [name for name in named if not any((at / name).exists() for at in SOURCES)]
    assert [name for name in absent if not name.endswith("/NAME.py")] == []


def console_commands(text: str) -> list[list[str]]:
    """Return the words of every `$ command` of a page's console blocks."""
    blocks = re.findall(r"^```console\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [
        shlex.split(line.removeprefix("$ "), comments=True)
        for line in joined.splitlines()
        if line.startswith("$ ")
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_shown_exist(page: Path) -> None:
    known = commands(typer.main.get_command(app))
    for words in console_commands(page.read_text()):
        if words[0].startswith(("./scripts/", "scripts/", "benchmarks/")):
            assert (ROOT / words[0]).exists(), words
        if words[0].rpartition("/")[2] == "arriero" and not words[1].startswith("-"):
            named = {" ".join(["arriero", *words[1:n]]) for n in (2, 3)}
            found = named & known.keys()
            assert found, f"no such command: {' '.join(words)}"
            options = {
                opt for p in known[min(found)].params for opt in (*p.opts, *p.secondary_opts)
            }
            asked = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert asked <= options, words


def test_the_version_is_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


if __name__ == "__main__":
    CLI_PAGE.write_text(cli_page())
