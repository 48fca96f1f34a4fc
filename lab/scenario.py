"""The three ways to run the lab: which hosts, what serves the models, and whether in a domain."""

from dataclasses import dataclass

from lab.hosts import API, DC, FULL, SHORT, Host
from lab.ollama import REAL, SIM, Kind


@dataclass(frozen=True)
class Scenario:
    """One way to run the lab."""

    name: str
    hosts: tuple[Host, ...]
    kind: Kind
    domain: bool = False


BRIEF = Scenario("short", SHORT, SIM)
WHOLE = Scenario("full", FULL, REAL)
WITH_AD = Scenario("with-ad", (DC, API), SIM, domain=True)
ALL = (BRIEF, WHOLE, WITH_AD)
