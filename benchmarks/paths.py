"""Where the benchmark keeps things."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "benchmarks"
NATIVE = HERE / "native"
FLOOR = HERE / "floor.py"
WORK = HERE / ".work"
LATEST = HERE / "results" / "latest.json"
CHART = ROOT / "docs" / "img" / "benchmark.svg"
PAGES = (ROOT / "README.md", ROOT / "docs" / "benchmarks.md")
