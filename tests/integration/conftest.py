"""What holds for every test here."""

import pytest

from arriero.app import run


@pytest.fixture(autouse=True)
def _quick_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the deadlines often, so that small timeouts are kept to the hundredth."""
    monkeypatch.setattr(run, "SWEEP_INTERVAL_S", 0.01)
