"""Loads models, for whoever asks first, and on nobody's account but the gateway's.

Cancelling a request that Ollama is loading a model for aborts the load (research A2), so a client
that gives up after half a minute, and tries again, would never see a model that takes one. A load
is therefore a request of our own: there is one for a model on a host, whoever needs it waits for
it, and nobody's leaving or timeout ends it.
"""

import asyncio
from typing import Protocol

import msgspec

from arriero.base.clock import Clock
from arriero.core.attempts import RULES, End
from arriero.core.blame import Ejected, blame
from arriero.core.fleet import Target
from arriero.core.residency import Residency, Told
from arriero.core.roster import Station
from arriero.fleet.own import Answer, ask
from arriero.fleet.pool import Pool, Spawn
from arriero.wire.dialect import Failure
from arriero.wire.ollama import OLLAMA
from arriero.wire.ollama_load import load_request


class LoadWaiter(Protocol):
    """Who waits for a load."""

    def on_load(self, end: End | None, failure: Failure | None) -> None:
        """The load is over; without an `end` the model may be asked now."""
        ...


class Reporter(Protocol):
    """Who counts and logs what becomes of models and hosts."""

    def tell_loaded(self, target: Target, reason: str, took_s: float) -> None:
        """A load is over; the reason is why it failed, or empty."""
        ...

    def tell_ejected(self, target: Target, ejected: Ejected, reason: str) -> None:
        """A failure may have left somebody out."""
        ...


class Unasked(msgspec.Struct, frozen=True):
    """What a load is beside a request with a lease: it may find out if an ejection can end."""

    asked_s: float
    probe: bool = False  # that of the host
    retrial: bool = False  # that of the model

    @property
    def is_half_open(self) -> bool:
        """Whether somebody's return depends on it."""
        return self.probe or self.retrial


def _try(station: Station, now_s: float, *, own: bool) -> Unasked:
    """Return what a load is tried for; one for a request leaves that to the request."""
    if not own:
        return Unasked(now_s)
    breaker = station.breaker
    retrial = breaker is not None and breaker.on_try(now_s, own=True)
    return Unasked(now_s, station.host.breaker.on_try(now_s, own=True), retrial)


class Load:
    """A load under way; append to `waiters` to hear of its end."""

    __slots__ = ("target", "task", "trial", "waiters")

    def __init__(self, target: Target, trial: "Unasked") -> None:
        self.target = target
        self.trial = trial
        self.waiters: list[LoadWaiter] = []
        self.task: asyncio.Task[None] | None = None


class Loader:
    """Owns all loads of the gateway."""

    def __init__(self, spawn: Spawn, clock: Clock, report: Reporter) -> None:
        self._spawn = spawn
        self._clock = clock
        self._report = report
        self._loads: dict[Station, Load] = {}

    def load(self, target: Target, pool: Pool, *, own: bool = False) -> Load:
        """Return the load of the target's model there, begun now if there was none.

        `own` is a load for no request.
        """
        station = target.station
        load = self._loads.get(station)
        if load is None:
            trial = _try(station, self._clock.now_s(), own=own)
            load = self._loads[station] = Load(target, trial)
            station.learn(Told.LOAD)
            load.task = self._spawn(self._run(load, pool))
        return load

    def stop(self) -> None:
        """End all loads: the gateway goes down."""
        for load in self._loads.values():
            if load.task is not None:
                load.task.cancel()

    async def _run(self, load: Load, pool: Pool) -> None:
        target = load.target
        answer = Answer(End.BUSY)  # when we are cancelled: nobody's fault
        try:
            answer = await _ask(target, pool)
        finally:
            del self._loads[target.station]
            target.station.learn(Told.DONE if answer.end is End.ANSWERED else Told.FAILED)
            end = _ENDS.get(answer.end, answer.end)
            if load.trial.is_half_open or (end is not None and not load.waiters):
                self._settle(target, end, load.trial)
        took_s = self._clock.now_s() - load.trial.asked_s
        if end is None:
            target.station.group.paces.loaded(took_s)
        self._report.tell_loaded(target, end.value if end is not None else "", took_s)
        for waiter in list(load.waiters):
            waiter.on_load(end, answer.failure)

    def _settle(self, target: Target, end: End | None, trial: Unasked) -> None:
        """Do for a load what the lease of a request would have done."""
        station, now_s = target.station, self._clock.now_s()
        host, breaker = station.host, station.breaker
        mark = RULES[end].mark if end is not None else None
        if end is None:
            host.on_answer(probe=trial.probe)
            if breaker is not None:
                breaker.on_success(probe=trial.retrial)
        elif mark is not None:
            ejected = blame(station, trial, now_s, mark)
            self._report.tell_ejected(target, ejected, end.value)
        else:
            host.breaker.on_abandoned(now_s, probe=trial.probe)
            if breaker is not None:
                breaker.on_abandoned(now_s, probe=trial.retrial)
        if end is End.MISSING_MODEL:
            host.lost(station.model)


async def _ask(target: Target, pool: Pool) -> Answer:
    embeds = _only_embeds(target)
    answer = await _ask_for(target, pool, embeds=embeds)
    if answer.end is End.CLIENT_FAULT and not embeds:
        # An Ollama before 0.30 does not list what its models can do, but refuses what they cannot.
        answer = await _ask_for(target, pool, embeds=True)
    return answer


async def _ask_for(target: Target, pool: Pool, *, embeds: bool) -> Answer:
    keep = target.keep_loaded or bool(target.settings.keep_loaded)
    path, body = load_request(target.model, target.settings, embeds=embeds, keep=keep)
    timeouts = target.timeouts
    return await ask(
        pool,
        OLLAMA,
        path,
        body,
        timeout_s=timeouts.load_s,
        connect_timeout_s=timeouts.connect_s,
    )


# What a load's end is to those who wait for it. A request that is wrong will be told so itself.
_ENDS: dict[End, End | None] = {
    End.ANSWERED: None,
    End.CLIENT_FAULT: None,
    End.FAILED: End.LOAD_FAILED,
    End.FINAL: End.LOAD_FAILED,
}


def _only_embeds(target: Target) -> bool:
    if target.settings.mode is not None:
        return target.settings.mode == "embedding"
    listed = (target.host.installed or {}).get(target.model)
    return listed is not None and bool(listed.capabilities) and listed.only_embeds


def must_load(target: Target) -> bool:
    """Say whether a request has to wait for a load there.

    Where nobody knows yet what a host has, the request is sent and may load the model itself.
    """
    return target.station.residency in (Residency.INSTALLED, Residency.LOADING)
