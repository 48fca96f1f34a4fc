"""Several gateways in this process, with simulated hosts and the databases that they share."""

from collections.abc import Iterator

import pytest
from tests.integration.conftest import _no_verdicts, _quick_sweeps
from tests.peers.valkey import Valkey, start

__all__ = ["_no_verdicts", "_quick_sweeps"]


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    """A server of our own, with nothing in it."""
    server = start()
    if isinstance(server, str):
        pytest.skip(server)
    yield server
    server.stop()
