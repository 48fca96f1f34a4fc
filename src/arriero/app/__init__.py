"""The composition root: the only place that constructs, and the only one with a real clock."""
