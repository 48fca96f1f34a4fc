from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.paths import CHART, LATEST, PAGES
from benchmarks.results import Results, load, save
from benchmarks.stats import Cell

from benchmarks import report, tables

Maker = Callable[[Mapping[str, Mapping[str, float]]], Results]

FIGURES = {
    "direct": {"requests_per_s": 90_000.0},
    "haproxy": {"cpu_us_per_request": 20.0, "cpu_us_per_chunk": 10.0},
    "arriero": {"cpu_us_per_request": 30.0, "cpu_us_per_chunk": 15.0, "stalls": 0.0},
}


def test_ratios_stand_beside_the_figures(make_results: Maker) -> None:
    lines = report.overview(make_results(FIGURES)).splitlines()
    (ours,) = [line for line in lines if line.startswith("| **Arriero**")]
    cells = [cell.strip() for cell in ours.strip("|").split("|")]
    assert cells[1:4] == ["30", "1.5x", "1x"]
    assert cells[7] == "0"
    assert cells[9] == tables.NOTHING


def test_the_rig_s_own_row_is_no_gateway(make_results: Maker) -> None:
    assert not any(
        line.startswith("| Direct") for line in report.overview(make_results(FIGURES)).splitlines()
    )


def test_who_could_not_run_is_told_with_the_reason(make_results: Maker) -> None:
    results = make_results(FIGURES)
    rows = [*results.rows[:2], replace(results.rows[2], not_run="no node | here")]
    text = report.full(replace(results, rows=rows))
    assert "not run: no node / here" in text
    assert "| **Arriero** | 30" not in text


def test_a_star_has_its_remark(make_results: Maker) -> None:
    results = make_results(FIGURES)
    marked = Cell(20.0, 19.0, 21.0, 3, ["it rained"])
    row = replace(
        results.rows[1], cells={"cpu_us_per_request": marked}, missing={"stalls": ["ill"]}
    )
    text = report.full(replace(results, rows=[row], notes=["the end came early"]))
    assert "| 20 (19 to 21)\\* |" in text
    assert "- Haproxy: it rained: `cpu_us_per_request`" in text
    assert "- Haproxy: ill: `stalls`" in text
    assert "- the end came early" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.0351, "0.0351"), (12.842, "12.8"), (173_961.0, "174,000"), (-0.25, "-0.25")],
)
def test_three_digits_matter(value: float, text: str) -> None:
    assert tables.number(Cell(value, value, value, 1)) == text


def test_a_document_comes_back_as_it_went(make_results: Maker, tmp_path: Path) -> None:
    results = make_results(FIGURES)
    path = tmp_path / "deep" / "r.json"
    save(results, path)
    again = load(path)
    assert report.full(again) == report.full(results)
    assert again.cell("arriero", "cpu_us_per_chunk") == Cell(15, 15, 15, 3)


def test_a_document_of_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text('{"schema": 99}')
    with pytest.raises(ValueError, match="schema 99"):
        load(path)


def test_only_what_is_between_the_markers_changes() -> None:
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter"
    assert report.replaced(page, "new") == f"before\n{report.BEGIN}\nnew\n{report.END}\nafter"
    assert report.replaced("no markers", "new") is None
    assert report.replaced(report.BEGIN, "new") is None


def test_pages_are_outdated_until_they_are_written(make_results: Maker, tmp_path: Path) -> None:
    results = make_results(FIGURES)
    readme, other, plain = (tmp_path / name for name in ("README.md", "b.md", "plain.md"))
    for page in (readme, other):
        page.write_text(f"{report.BEGIN}\n{report.END}\n")
    plain.write_text("nothing to fill\n")
    pages = [readme, other, plain, tmp_path / "absent.md"]
    assert report.outdated(results, pages) == [readme, other]
    for page in (readme, other):
        text = report.replaced(page.read_text(), report.rendering_of(page)(results))
        assert text is not None
        page.write_text(text)
    assert report.outdated(results, pages) == []
    assert "### Streams" in other.read_text()
    assert "### Streams" not in readme.read_text()


@pytest.mark.skipif(not LATEST.exists(), reason="no run has been committed yet")
def test_the_committed_pages_and_chart_are_those_of_the_committed_run() -> None:
    results = load(LATEST)
    assert report.outdated(results, PAGES) == []
    assert CHART.read_text() == report.chart(results)
