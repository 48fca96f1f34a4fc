"""Decisions: facts and `now_s` in, values out. No I/O, clock, chance or log."""
