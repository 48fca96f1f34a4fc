from xml.etree import ElementTree as ET

import pytest
from benchmarks.chart import WIDTH, Bar, Panel, decades, plain, position, render
from hypothesis import given
from hypothesis import strategies as st

SVG = "{http://www.w3.org/2000/svg}"


def rectangles(text: str) -> list[ET.Element]:
    return ET.fromstring(text).findall(f"{SVG}rect")


@pytest.mark.parametrize(
    ("values", "expected"),
    [([12.0, 15_000.0], (0, 5)), ([20.0, 100.0], (1, 2)), ([20.0], (1, 2)), ([2.0], (0, 1))],
)
def test_the_scale_goes_from_power_to_power(values: list[float], expected: tuple[int, int]) -> None:
    assert decades(values) == expected


@given(st.lists(st.floats(1e-3, 1e8), min_size=1, max_size=12))
def test_every_value_lies_on_the_scale(values: list[float]) -> None:
    low, high = decades(values)
    assert all(-1e-9 <= position(value, low, high) <= 1 + 1e-9 for value in values)


@given(st.lists(st.floats(1e-3, 1e8), min_size=1, max_size=12))
def test_bars_stay_inside_and_longer_is_more(values: list[float]) -> None:
    text = render([Panel("t", "µs", [Bar("x", value) for value in values])], "c")
    widths = [float(rect.attrib["width"]) for rect in rectangles(text)]
    rights = [
        float(rect.attrib["x"]) + width
        for rect, width in zip(rectangles(text), widths, strict=True)
    ]
    assert max(rights) < WIDTH
    order = sorted(range(len(values)), key=values.__getitem__)
    assert [widths[index] for index in order] == sorted(widths)


def test_names_are_escaped_and_ours_stands_out() -> None:
    bars = [Bar("a < b & c", 10.0), Bar("arriero", 20.0, "overloaded", ours=True)]
    text = render([Panel("Time", "µs", bars)], "caption")
    labels = [element.text for element in ET.fromstring(text).iter(f"{SVG}text")]
    assert "a < b & c" in labels
    assert "20 (overloaded)" in labels
    assert "caption" in labels
    assert [rect.attrib["class"] for rect in rectangles(text)] == ["bar", "ours"]


def test_it_has_colours_for_the_dark() -> None:
    assert "prefers-color-scheme: dark" in render([Panel("t", "s", [Bar("x", 1.0)])], "")


def test_a_panel_without_bars_is_left_out() -> None:
    text = render([Panel("there", "s", [Bar("x", 1.0)]), Panel("empty", "s", [])], "")
    assert "there" in text
    assert "empty" not in text


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5"), (12.84, "12.8"), (999.6, "1,000"), (15_510.2, "15,500")]
)
def test_numbers_for_people(value: float, text: str) -> None:
    assert plain(value) == text
