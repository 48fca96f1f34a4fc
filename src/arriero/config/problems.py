"""What a configuration file can be told: errors that stop, notes that explain."""

from typing import Literal

import msgspec


class Problem(msgspec.Struct, frozen=True):
    """One finding at one place; lines and columns count from 1."""

    line: int
    column: int
    message: str
    hint: str | None = None
    severity: Literal["error", "note"] = "error"

    @property
    def order(self) -> tuple[int, int, str]:
        """The key that sorts problems by their place in the file."""
        return self.line, self.column, self.message

    def render(self, path: str) -> str:
        """Return `path:line:column: message` and, indented below it, the hint.

        A message may quote what stands in the file; what is not printable there (line breaks,
        escape sequences of terminals) is not printed here either.
        """
        word = "" if self.severity == "error" else "note: "
        said = "".join(char if char.isprintable() else "\ufffd" for char in self.message)
        head = f"{path}:{self.line}:{self.column}: {word}{said}"
        return f"{head}\n  hint: {self.hint}" if self.hint else head


class ConfigError(Exception):
    """A file that must not be run, with every mistake found in it, in file order."""

    def __init__(self, path: str, problems: list[Problem]) -> None:
        self.path = path
        self.problems = sorted(problems, key=lambda problem: problem.order)
        super().__init__("\n".join(problem.render(path) for problem in self.problems))
