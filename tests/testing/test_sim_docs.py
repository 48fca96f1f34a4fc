"""The manual names every fault, setting, field of a model, and endpoint."""

from dataclasses import fields
from pathlib import Path

import pytest

from arriero.testing.faults import Fault, Kind
from arriero.testing.ollama import Settings, SimModel

MANUAL = (Path(__file__).parents[2] / "docs/testing.md").read_text()
NAMES = sorted(
    {kind.value for kind in Kind}
    | {field.name for field in fields(Settings)}
    | {field.name for field in fields(SimModel)}
)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_in_the_manual(name: str) -> None:
    assert f"`{name}`" in MANUAL or f"({name}," in MANUAL


@pytest.mark.parametrize("name", [name for name in Fault.__struct_fields__ if name != "id"])
def test_the_fields_of_a_fault_are_in_the_manual(name: str) -> None:
    assert f"`{name}`" in MANUAL or f"{name}=" in MANUAL


@pytest.mark.parametrize("path", ["faults", "stats", "requests", "restart"])
def test_the_controls_are_in_the_manual(path: str) -> None:
    assert f"/_sim/{path}" in MANUAL
