"""Several gateways in this process, with simulated hosts and the databases that they share."""

from tests.integration.conftest import _no_verdicts, _quick_sweeps

__all__ = ["_no_verdicts", "_quick_sweeps"]
