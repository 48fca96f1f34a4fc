"""The result of a run as one JSON document, and back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.stats import Cell

SCHEMA = 1


@dataclass(frozen=True)
class Row:
    """One entrant: who it is, what it did, its figures, or why there are none.

    `missing` says of figures that no round could take what was in the way.
    """

    name: str
    title: str
    family: str
    version: str
    job: str
    cells: Mapping[str, Cell]
    not_run: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    missing: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """Everything that one run found."""

    machine: Mapping[str, Any]
    settings: Mapping[str, Any]
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    rounds: Sequence[Mapping[str, Any]] = ()

    def row(self, name: str) -> Row | None:
        """Return an entrant's row."""
        return next((row for row in self.rows if row.name == name), None)

    def cell(self, name: str, key: str) -> Cell | None:
        """Return one figure of an entrant, None when there is none."""
        row = self.row(name)
        return row.cells.get(key) if row is not None else None


def save(results: Results, path: Path) -> None:
    """Write the document; its numbers are rounded to what the rig can tell apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = _rounded({"schema": SCHEMA, **asdict(results)})
    path.write_text(json.dumps(document, indent=1) + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return value


def load(path: Path) -> Results:
    """Read a document that `save` wrote."""
    document = json.loads(path.read_text())
    if document.get("schema") != SCHEMA:
        raise ValueError(f"{path}: schema {document.get('schema')!r}, this program reads {SCHEMA}")
    return Results(
        machine=document["machine"],
        settings=document["settings"],
        rows=[_row(row) for row in document["rows"]],
        notes=document["notes"],
        rounds=document["rounds"],
    )


def _row(row: Mapping[str, Any]) -> Row:
    cells = {key: Cell(**cell) for key, cell in row["cells"].items()}
    return Row(**{**row, "cells": cells})
