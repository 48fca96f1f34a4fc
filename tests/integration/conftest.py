"""What holds for every test here."""

import asyncio

import pytest

from arriero.app import run
from arriero.fleet.prefill import Verifier


@pytest.fixture(autouse=True)
def _quick_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the deadlines often, so that small timeouts are kept to the hundredth."""
    monkeypatch.setattr(run, "SWEEP_INTERVAL_S", 0.01)


@pytest.fixture(autouse=True)
def _no_verdicts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no questions about templates disturb the faults and counts of a simulated host.

    So no stream is resumed either, but in the modules that say `VERIFIES = True`.
    """

    async def never(_: Verifier) -> None:
        await asyncio.Event().wait()

    if not getattr(request.module, "VERIFIES", False):
        monkeypatch.setattr(Verifier, "run", never)
