from collections.abc import Callable, Mapping

import pytest
from benchmarks.results import Results, Row
from benchmarks.stats import Cell

FAMILIES = {"haproxy": "proxy", "rolter": "rust", "smg": "rust", "litellm": "python"}
MACHINE = {
    "cpu": "Some CPU",
    "system": "Some Linux",
    "kernel": "6.1",
    "date": "2026-01-01 00:00 UTC",
}

Maker = Callable[[Mapping[str, Mapping[str, float]]], Results]


def cells_of(values: Mapping[str, float]) -> dict[str, Cell]:
    return {key: Cell(value, value, value, 3) for key, value in values.items()}


@pytest.fixture
def make_results() -> Maker:
    def make(figures: Mapping[str, Mapping[str, float]]) -> Results:
        rows = [
            Row(
                name=name,
                title=name.title(),
                family=FAMILIES.get(name, "ours" if name.startswith("arriero") else "rig"),
                version="1",
                job="relays",
                cells=cells_of(values),
                facts={"commit": "0123456789abcdef"} if name == "arriero" else {},
            )
            for name, values in figures.items()
        ]
        return Results(MACHINE, {"rounds": 3}, rows)

    return make
