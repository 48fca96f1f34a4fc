"""Whose failure it was: the host's, or that of one model on it.

    cause             host               station
    REFUSED, LOST     ejected            --
    STATUS            --                 ejected after `failures_max` in a row
    LOAD              --                 ejected
    SILENT            `silence` decides  ejected

A failure of the half-open request of an ejected host ejects that host again, whatever its cause.
"""

from enum import IntEnum
from typing import Protocol

from arriero.core.health import Cause
from arriero.core.residency import LOADED
from arriero.core.roster import Host, Station
from arriero.core.silence import Verdict, Witness, judge


class Ejected(IntEnum):
    """Who is left out because of a failure; nobody is false."""

    NOBODY = 0
    MODEL = 1
    HOST = 2


class Trial(Protocol):
    """A lease, as its failure concerns the host."""

    @property
    def probe(self) -> bool:
        """It is the half-open request of the host."""

    @property
    def retrial(self) -> bool:
        """It is the half-open request of the station."""

    @property
    def asked_s(self) -> float:
        """When it was sent."""


def blame(station: Station, trial: Trial, now_s: float, cause: Cause) -> Ejected:
    """Note that a request on the station failed; return who is left out because of it now."""
    host = station.host
    host.roster.now_s = now_s
    if cause in (Cause.REFUSED, Cause.LOST):
        # Its process may be another one soon, with empty prompt caches: by what the old one
        # held, every conversation would go to the one host that must read it all.
        for each in host.stations.values():
            each.group.prefixes.forget(host.bit)
        if trial.retrial and station.breaker is not None:
            station.breaker.on_abandoned(now_s, probe=True)
        ejects = host.breaker.on_failure(now_s, probe=trial.probe, cause=cause)
        return Ejected.HOST if ejects else Ejected.NOBODY
    ejected = station.on_failure(now_s, cause, retrial=trial.retrial)
    if trial.probe or (cause is Cause.SILENT and _is_wedged(host, station, trial.asked_s)):
        host.roster.suspects.discard(host)
        if host.breaker.on_failure(now_s, probe=trial.probe, cause=cause):
            return Ejected.HOST
    return Ejected.MODEL if ejected else Ejected.NOBODY


def _is_wedged(host: Host, silent: Station, asked_s: float) -> bool:
    """Say whether a silent model means a silent host; if nobody knows, have it probed."""
    others = (station for station in host.stations.values() if station is not silent)
    verdict = judge(
        asked_s,
        (Witness(each.silent, each.residency is LOADED, each.answered_s) for each in others),
    )
    if verdict is Verdict.PROBE:
        host.roster.suspects.add(host)
    return verdict is Verdict.EJECT
