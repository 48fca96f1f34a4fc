"""What the command that measures workers makes of its figures."""

import pytest

from benchmarks import workers

NAMES = ("one process", "2 workers", "2 gateways")


def found(*ratios: float) -> dict[str, object]:
    rows = {name: {"cpu_us": 50.0, "per_s": 1000.0} for name in NAMES}
    middle = sorted(ratios)[len(ratios) // 2]
    return {"table": {workers.ALL: rows}, "ratios": {workers.ALL: list(ratios)}, "ratio": middle}


def test_capacity_is_cores_by_processor_time() -> None:
    lines = workers.report(found(1.7, 1.8, 1.9), 2).splitlines()
    (one,) = [line for line in lines if "one process" in line]
    (two,) = [line for line in lines if "2 workers  " in line]
    assert one.split()[-1] == "20000"
    assert two.split()[-1] == "40000"


@pytest.mark.parametrize(("ratio", "word"), [(1.69, "FAIL"), (1.71, "pass")])
def test_the_target_is_told(ratio: float, word: str) -> None:
    assert workers.report(found(1.0, ratio, 2.0), 2).splitlines()[-1].startswith(word)


def test_more_workers_may_be_measured() -> None:
    options = workers.parse(["--workers", "3", "--limits"])
    assert (options.workers, options.limits, options.rounds) == (3, True, 5)
