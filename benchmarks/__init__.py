"""Side-by-side measurements of arriero and its peers; see docs/benchmarks.md."""
