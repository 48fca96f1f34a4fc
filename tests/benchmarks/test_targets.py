from collections.abc import Callable, Mapping

import pytest
from benchmarks.results import Results
from benchmarks.targets import TARGETS, verdicts

Maker = Callable[[Mapping[str, Mapping[str, float]]], Results]

ARRIERO = {
    "cpu_us_per_request": 40.0,
    "cpu_us_per_chunk": 36.0,
    "stalls": 0.0,
    "gap_max_ms": 90.0,
    "streams_open": 1000.0,
    "added_ttft_p99_ms": 1.5,
    "ready_s": 0.4,
    "ready_probe_s": 0.4,
    "rss_idle_mb": 60.0,
}
OTHERS = {
    "haproxy": {"cpu_us_per_request": 20.0, "cpu_us_per_chunk": 18.0},
    "rolter": {"cpu_us_per_request": 150.0},
    "smg": {"cpu_us_per_request": 80.0},
    "litellm": {"cpu_us_per_request": 8000.0},
}


def words(results: Results) -> list[str]:
    return [verdict.word for verdict in verdicts(results)]


def test_figures_on_the_limits_are_good(make_results: Maker) -> None:
    assert words(make_results({"arriero": ARRIERO, **OTHERS})) == ["PASS"] * len(TARGETS)


@pytest.mark.parametrize(
    ("key", "value", "failing"),
    [
        ("cpu_us_per_request", 40.5, [0, 1, 2]),
        ("cpu_us_per_chunk", 36.5, [3]),
        ("stalls", 1.0, [4]),
        ("streams_open", 999.0, [4]),
        ("added_ttft_p99_ms", 2.0, [5]),
        ("ready_s", 1.0, [6]),
        ("ready_probe_s", 1.0, [7]),
        ("rss_idle_mb", 80.0, [8]),
    ],
)
def test_a_figure_beyond_its_limit_fails(
    make_results: Maker, key: str, value: float, failing: list[int]
) -> None:
    found = words(make_results({"arriero": ARRIERO | {key: value}, **OTHERS}))
    assert [index for index, word in enumerate(found) if word == "FAIL"] == failing


def test_the_best_rust_peer_is_the_one_to_beat(make_results: Maker) -> None:
    verdict = verdicts(make_results({"arriero": ARRIERO, **OTHERS}))[1]
    assert verdict.found == "0.50x (40.0 to 80.0 µs), Smg"


def test_what_was_not_measured_is_neither_good_nor_bad(make_results: Maker) -> None:
    assert words(make_results({})) == ["UNKNOWN"] * len(TARGETS)
    assert words(make_results({"arriero": ARRIERO}))[:4] == ["UNKNOWN"] * 4
