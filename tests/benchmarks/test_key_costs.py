from pathlib import Path

import pytest
from benchmarks.keys import LIMITED, LIMITS, PEPPER, PLAIN, compared, fill

from arriero.core.keys import KeyRing
from arriero.store.opening import open_store


def test_the_store_has_the_keys_that_are_used_and_the_others(tmp_path: Path) -> None:
    path = tmp_path / "many.db"
    fill(path, 50)
    store = open_store(f"sqlite:///{path}")
    ring = KeyRing(store.pepper(b"another"), store.load_keys().changed)
    store.close()
    assert len(ring) == 52
    assert ring.digest(PLAIN) == KeyRing(PEPPER).digest(PLAIN)
    plain, limited = (ring.find(secret.encode()) for secret in (PLAIN, LIMITED))
    assert plain is not None
    assert limited is not None
    assert (plain.limits, limited.limits) == (None, LIMITS)


def test_rounds_are_compared_each_for_itself() -> None:
    rounds = [{"a": 10.0, "b": 11.0}, {"a": 20.0, "b": 30.0}, {"a": 40.0, "b": 48.0}]
    assert compared(rounds) == pytest.approx({"a": 0.0, "b": 0.2})
