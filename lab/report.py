"""The steps of a run as a table: for the eye, as Markdown and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """A step that was played: what it proved, or why it failed."""

    step: str
    passed: bool
    duration_s: float
    note: str


def verdict(rows: Sequence[Row]) -> str:
    """Return GO when steps were played and all of them passed."""
    return "GO" if rows and all(row.passed for row in rows) else "NO-GO"


def line(row: Row) -> str:
    """Return one step as a line for a terminal."""
    mark = "ok  " if row.passed else "FAIL"
    return f"{mark} {row.duration_s:7.1f} s  {row.step:<22} {first_line(row.note)}"


def first_line(text: str) -> str:
    """Return the first line of a text."""
    return text.strip().splitlines()[0] if text.strip() else ""


def write(folder: Path, rows: Sequence[Row]) -> None:
    """Write `steps.md` and `steps.json`."""
    total_s = sum(row.duration_s for row in rows)
    lines = [f"# Lab: {verdict(rows)}, {total_s:.0f} s", "", "| step | result | time | |"]
    lines.append("|---|---|---:|---|")
    for row in rows:
        note = first_line(row.note).replace("|", "\\|")
        result = "go" if row.passed else "**no-go**"
        lines.append(f"| {row.step} | {result} | {row.duration_s:.1f} s | {note} |")
    (folder / "steps.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    facts = {"verdict": verdict(rows), "steps": [asdict(row) for row in rows]}
    (folder / "steps.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
