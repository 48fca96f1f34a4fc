"""A simulation of one Ollama host on a real socket; `docs/testing.md` is its manual.

async with OllamaSim([SimModel("llama3:8b")]) as sim:
    sim.faults.add(Fault(kind=Kind.RESET_MID, after=3, count=1))
    ... talk to sim.url ...
"""

from arriero.testing.faults import Fault, FaultBook, Kind
from arriero.testing.ollama.models import SimModel, Turn
from arriero.testing.ollama.settings import Settings
from arriero.testing.ollama.sim import OllamaSim

__all__ = ["Fault", "FaultBook", "Kind", "OllamaSim", "Settings", "SimModel", "Turn"]
