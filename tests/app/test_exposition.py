"""Reading counters and histograms as a client does."""

import math

from hypothesis import given
from hypothesis import strategies as st

from arriero.app.exposition import Readings, buckets, percentile, quantile_bound, read

PAGE = """\
# TYPE a_total counter
a_total{x="1",y="2"} 3
a_total{x="1",y="3"} 4
a_total{x="2",y="2"} 5
h_bucket{m="p",le="0.5"} 1
h_bucket{m="q",le="0.5"} 2
h_bucket{m="p",le="+Inf"} 4
h_bucket{m="q",le="+Inf"} 4
"""


def page() -> Readings:
    found = read(PAGE)
    assert found
    return found


def test_sums_over_labels() -> None:
    assert page().total("a_total") == 12
    assert page().total("a_total", x="1") == 7
    assert page().total("a_total", x="1", y="3") == 4
    assert page().total("none") == 0
    assert page().by("a_total", "y") == {"2": 8, "3": 4}
    assert buckets(page(), "h") == {0.5: 3.0, math.inf: 8.0}


def test_what_was_added_since() -> None:
    before = read(PAGE.replace('"3"} 4', '"3"} 1').replace('x="2",y="2"} 5', 'x="2",y="2"} 50'))
    assert before
    gained = page().since(before)
    assert gained.total("a_total", y="3") == 3
    assert gained.total("a_total", x="2") == 5  # It began anew meanwhile.


def test_what_is_no_page() -> None:
    assert read("a_total{x=} what\n") is None


def test_a_share_beyond_the_last_bound_has_none() -> None:
    assert quantile_bound({0.5: 3.0, math.inf: 8.0}, 0.95) == math.inf
    assert quantile_bound({0.5: 3.0, math.inf: 3.0}, 0.95) == 0.5
    assert quantile_bound({0.5: 0.0, math.inf: 0.0}, 0.95) is None
    assert quantile_bound({}, 0.95) is None


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_one_of_the_values_and_holds_for_its_share(
    values: list[float], share: float
) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
