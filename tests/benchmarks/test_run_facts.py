"""What is published of a run names no place on the machine it ran on."""

from benchmarks.paths import ROOT
from benchmarks.run import _without_root


def test_paths_begin_at_the_projects_root() -> None:
    facts = {"script": f"{ROOT}/benchmarks/.work/x.js", "version": "1.0", "count": 2}
    assert _without_root(facts) == {
        "script": "benchmarks/.work/x.js",
        "version": "1.0",
        "count": 2,
    }
