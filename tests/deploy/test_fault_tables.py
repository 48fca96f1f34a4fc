"""docs/faults.md and docs/doctor.md: every row is there, and what it names exists."""

import ast
import re
from pathlib import Path

import pytest
from lab.story import STEPS

from arriero.app.doctor import fleet_rows, gateway_rows, host_rows, rows

ROOT = Path(__file__).parents[2]
MANUAL = (ROOT / "docs/faults.md").read_text()
DOCTOR = (ROOT / "docs/doctor.md").read_text()
FAULTS = 22
LAB = {step.name for steps in STEPS.values() for step in steps}
FOLDERS = ("tests/deploy", "tests/doctor")


def table(title: str, text: str) -> list[list[str]]:
    """Return the rows of the table under a heading, as cells, without its head."""
    section = text.split(f"\n## {title}\n")[1].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


SEED = table("Of the specification's Ansible and unit", MANUAL)
STOPS = table("Mistakes that stop before anything is changed", MANUAL)
TROUBLE = table("Of the specification's troubleshooting table", MANUAL)


def functions_of(file: str) -> set[str]:
    """Return the names of a file's tests."""
    (path,) = [ROOT / folder / file for folder in FOLDERS if (ROOT / folder / file).exists()]
    functions = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef)]
    return {function.name for function in functions if function.name.startswith("test_")}


def named(cell: str) -> list[tuple[str, str]]:
    """Return the tests that a cell names, each with its file."""
    found = []
    for part in cell.split("; "):
        file, _, names = part.partition(": ")
        found += [(file.strip("`"), f"test_{name}") for name in re.findall(r"`(\w+)`", names)]
    return found


def test_every_fault_has_its_row() -> None:
    assert [int(row[0]) for row in SEED] == list(range(1, FAULTS + 1))


@pytest.mark.parametrize("row", SEED, ids=lambda row: row[0])
def test_a_fault_is_held_off_by_tests_of_its_number(row: list[str]) -> None:
    tests = named(row[2])
    assert tests
    number = f"{int(row[0]):02}"
    for file, name in tests:
        assert name in functions_of(file)
        assert number in re.findall(r"\d\d", name), name


def test_every_test_of_a_fault_is_in_the_table() -> None:
    listed = {name for row in SEED for _, name in named(row[2])}
    assert {name for name in functions_of("test_seed_faults.py") if "_fault_" in name} == listed


@pytest.mark.parametrize("row", STOPS, ids=lambda row: row[0])
def test_a_mistake_that_stops_is_tested(row: list[str]) -> None:
    tests = named(row[1])
    assert tests
    assert all(name in functions_of(file) for file, name in tests), tests


@pytest.mark.parametrize("row", [*SEED, *STOPS], ids=lambda row: row[0])
def test_steps_of_the_lab_exist(row: list[str]) -> None:
    assert set(re.findall(r"`([\w-]+)`", row[-1] if row[-1] not in row[:-1] else "")) <= LAB


# -- doctor


def executed() -> set[str]:
    """Return the names of the rows that doctor has."""
    texts = [
        (ROOT / f"src/arriero/app/doctor/{module.__name__.rpartition('.')[2]}.py").read_text()
        for module in (fleet_rows, gateway_rows, host_rows)
    ]
    constants = {n: v for text in texts for n, v in re.findall(r'(?m)^([A-Z]+) = "(.+)"$', text)}
    used = {name for text in texts for name in re.findall(r"\(\s*([A-Z]+),", text)}
    return {value for name, value in constants.items() if name in used}


def test_the_manual_of_doctor_has_its_rows() -> None:
    listed = [row[0] for row in table("The rows", DOCTOR)]
    assert set(listed) == executed()
    assert len(listed) == len(rows.ROWS)


def test_the_specifications_symptoms_are_rows_of_doctor() -> None:
    assert len(TROUBLE) == 5
    for row in TROUBLE:
        assert row[1].strip("`") in executed()
        tests = named(row[2])
        assert tests
        assert all(name in functions_of(file) for file, name in tests), tests


def test_the_lab_breaks_what_doctor_tells() -> None:
    assert "doctor" in LAB
