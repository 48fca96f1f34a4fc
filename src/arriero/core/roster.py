"""What is known of every host and of each model on it, kept as bitmasks beside the objects.

Theory. A `Host` is one backend, a `Station` one model on one host, a `Group` all stations of one
model name. Each host has a bit. Who may be asked for a model is then an `&` of three integers, and
who of them is least busy the first level that shares a bit with it: a fleet of a thousand hosts
costs little more than one of two. The masks repeat what hosts and stations say; they are written
where those change (`Host`, `Station`, leases) and nowhere else, and a state machine test holds both
together.

`Host.in_flight` counts the requests a host is working on, whatever alias they came by: a counter
per alias cannot see that a host is busy with another model (LiteLLM's fault 4, research 3).

A host and each of its stations have a breaker of their own; `blame` says which one a failure
reaches.

A roster lives as long as the process. A reload keeps the hosts whose settings did not change, and a
bit is never given to another host, so that requests under way may go on with the aliases they know.
Its clock is as old as the last sweep or failure: what it is asked for here needs no better one.
"""

from collections.abc import Callable

from arriero.config.settings import Backend, Routing
from arriero.core.claims import Claims, Telling
from arriero.core.group import Group
from arriero.core.health import AVAILABLE, Breaker, Cause, State
from arriero.core.overflow import TokenRatios
from arriero.core.residency import Residency, Told, after
from arriero.core.slowstart import Ramp
from arriero.wire.inventory import Listed, Loaded

__all__ = ["UNLIMITED", "Group", "Host", "Roster", "Station", "slots_of"]

UNLIMITED = 1_000_000_000  # slots, where the backend's own scheduler is trusted
PROBE_FIRST_S = 1.0  # how long a silent host is left to the prober when its ejection is over
LOAD_PATIENCE_S = 60.0  # how long requests wait for one host's load before another may begin

_LOADING, _LOADED = Residency.LOADING, Residency.LOADED


class Station:
    """One model on one host: it has so many slots, and `running` of them are taken."""

    __slots__ = (
        "answered_s", "breaker", "digest", "evicted_s", "evictions", "foreign", "group", "host",
        "loading_s", "model", "others", "own", "probed_s", "probes", "residency", "room", "running",
        "slots",
    )  # fmt: skip

    def __init__(self, host: "Host", group: Group, slots: int) -> None:
        self.host = host
        self.group = group
        self.model = group.model
        self.slots = slots
        self.room = slots  # what of them this gateway may take
        self.own = slots  # what of them is its own, whatever other gateways use
        self.others = 0  # what those use
        self.running = 0
        self.foreign = 0  # of these, how many are other workers' (core.tally)
        self.digest = ""  # of the weights on its disk
        self.breaker: Breaker | None = None  # made by the first failure; most never need one
        self.residency = Residency.UNKNOWN if host.kind == "ollama" else Residency.LOADED
        self.answered_s = 0.0  # when a generation last succeeded here
        self.evicted_s = 0.0  # when the backend last took the model out of memory by itself
        self.evictions = 0  # how often, since its process began
        self.loading_s = 0.0  # when the load under way began
        self.probed_s = 0.0  # when the last probe ended
        self.probes = 0  # since the last answer to a user
        group.set_residency(host.bit, self.residency)
        self.refresh_free()
        self.look()

    def look(self) -> None:
        """Take over what the host knows of the model."""
        host = self.host
        self.refresh_usable()
        listed = (host.installed or {}).get(self.model)
        generating = listed is not None and bool(listed.capabilities) and not listed.only_embeds
        self.group.set_generating(host.bit, generating)
        if host.kind != "ollama":
            return  # one model, in memory from its start
        if listed is not None and listed.digest != self.digest:
            self.digest = listed.digest
            host.roster.dirty.add(self.group)
        loaded = host.resident.get(self.model)
        self.group.set_empty(host.bit, empty=not host.resident and not host.loads)
        if loaded is not None:
            self.learn(Told.MEMORY)
            self.group.context = max(self.group.context, loaded.context)
            self.group.paces.enrol(host.bit, loaded.offloaded)
        elif host.installed is None:
            self.learn(Told.GONE)
        else:
            self.learn(Told.DISK if self.model in host.installed else Told.ABSENT)

    def learn(self, told: Told) -> None:
        """Take over what was learnt about the model's whereabouts."""
        before, now = self.residency, after(self.residency, told)
        if told is Told.GONE:
            self.evictions = 0
        if now is before:
            return
        self.residency = now
        self.group.set_residency(self.host.bit, now)
        now_s = self.host.roster.now_s
        if now is _LOADING:
            self.loading_s = now_s
            self.host.roster.loading.add(self)
            for station in self.host.stations.values():  # others would have to wait for this load
                station.group.set_empty(self.host.bit, empty=False)
        elif before is _LOADING:
            self.host.roster.loading.discard(self)
        if before is _LOADED and told is Told.DISK:
            self.evicted_s = now_s
            self.evictions += 1

    @property
    def resident(self) -> bool:
        """Whether the model is loaded."""
        return self.residency is _LOADED

    @property
    def silent(self) -> bool:
        """Whether it is ejected because it did not answer."""
        breaker = self.breaker
        return (
            breaker is not None and breaker.state is not AVAILABLE and breaker.cause is Cause.SILENT
        )

    def refresh_usable(self) -> None:
        """Write anew whether requests for the model may go to the host."""
        host, group, breaker = self.host, self.group, self.breaker
        there = host.has(self.model) and (group.mixed or not group.odd & host.bit)
        lets = breaker is None or breaker.may_try(host.roster.now_s)
        group.set_usable(host.bit, usable=there and lets)
        resort = (
            there
            and not lets
            and breaker is not None
            and breaker.state is State.EJECTED
            and breaker.cause is not Cause.SILENT
        )
        group.resort = group.resort | host.bit if resort else group.resort & ~host.bit

    def refresh_free(self) -> None:
        """Write anew whether a slot is free; a host that has just come back has fewer."""
        host = self.host
        held = host.ramp is not None and host.in_flight >= host.ramp.allowed()
        self.group.set_free(host.bit, free=self.running < self.room and not held)

    def set_slots(self, slots: int) -> None:
        """Change the slots, as a reload does; requests beyond them finish first."""
        self.slots = self.own = slots  # until the other gateways are heard again
        self.set_others(self.others, slots)

    def set_others(self, others: int, own: int) -> None:
        """Note what other gateways use, and what is this one's own in any case."""
        self.others, self.own = others, own
        room = max(self.slots - others, own)
        if room == self.room:
            return
        more = room > self.room
        self.room = room
        self.refresh_free()
        if more and self.free and self.host.roster.on_vacant is not None:
            self.host.roster.on_vacant(self)

    @property
    def free(self) -> bool:
        """Whether a slot is free."""
        return self.group.free & self.host.bit != 0

    def on_answer(self, *, retrial: bool) -> None:
        """A generation succeeded; the lease has noted when."""
        breaker = self.breaker
        if breaker is not None:
            breaker.on_success(probe=retrial)

    def on_failure(self, now_s: float, cause: Cause, *, retrial: bool) -> bool:
        """A request failed by this model's fault; return True when that ejects it."""
        breaker = self.breaker
        if breaker is None:
            breaker = self.breaker = self.host.new_breaker(self._note_breaker)
        return breaker.on_failure(now_s, probe=retrial, cause=cause)

    def _note_breaker(self, breaker: Breaker) -> None:
        resting = self.host.roster.resting
        if breaker.state is AVAILABLE:
            resting.discard(self)
        else:
            resting.add(self)
        self.refresh_usable()

    def __repr__(self) -> str:
        return f"<Station {self.model} on {self.host.name}: {self.running}/{self.slots}>"


class Host:
    """One backend as the gateway knows it. Written only by leases and the inventory."""

    __slots__ = (
        "_installed", "_resident", "_routing", "bit", "breaker", "foreign", "in_flight", "kind",
        "last_turn", "name", "others", "ramp", "roster", "served", "settings", "stations",
        "version",
    )  # fmt: skip

    def __init__(self, settings: Backend, routing: Routing, roster: "Roster") -> None:
        self.settings = settings
        self.name = settings.name
        self.kind = settings.kind
        self.roster = roster
        self.in_flight = 0
        self.foreign = 0  # of these, how many are other workers' (core.tally)
        self.others = 0  # requests of other gateways, besides
        self.served = 0  # leases ever given
        self.last_turn = 0  # turn of the last lease: least recently used breaks ties
        self.version = ""
        self.stations: dict[str, Station] = {}
        self._installed: dict[str, Listed] | None = None
        self._resident: dict[str, Loaded] = {}
        self._routing = routing
        self.ramp: Ramp | None = None  # while it has just come back
        self.breaker = self.new_breaker(self._note_breaker)
        self.bit = roster.enrol(self)

    def new_breaker(self, on_change: Callable[[Breaker], None]) -> Breaker:
        """Return a breaker with the limits of the configuration."""
        breaker = Breaker(
            failures_max=self._routing.failures_max,
            ejection_s=self._routing.ejection_s,
            ejection_max_s=self._routing.ejection_max_s,
            on_change=on_change,
        )
        breaker.probe_first_s = PROBE_FIRST_S if self._routing.probe_interval_s else 0.0
        return breaker

    def set_limits(self, routing: Routing) -> None:
        """Change the limits, as a reload does; an ejection under way keeps its end."""
        self._routing = routing
        stations = [station.breaker for station in self.stations.values()]
        for breaker in (self.breaker, *stations):
            if breaker is not None:
                breaker.set_limits(
                    failures_max=routing.failures_max,
                    ejection_s=routing.ejection_s,
                    ejection_max_s=routing.ejection_max_s,
                )
                breaker.probe_first_s = PROBE_FIRST_S if routing.probe_interval_s else 0.0

    @property
    def installed(self) -> dict[str, Listed] | None:
        """What is on its disk; None: not known yet."""
        return self._installed

    @installed.setter
    def installed(self, models: dict[str, Listed] | None) -> None:
        self._installed = models
        self._look()

    @property
    def resident(self) -> dict[str, Loaded]:
        """What is in its memory."""
        return self._resident

    @resident.setter
    def resident(self, models: dict[str, Loaded]) -> None:
        self._resident = models
        self._look()

    def looked(self, installed: dict[str, Listed], resident: dict[str, Loaded]) -> None:
        """Take over a whole look, at once.

        One after the other, a model that was loaded since the last look would have left the memory
        between the two, and its prompt cache with it.
        """
        self._installed, self._resident = installed, resident
        self._look()

    def lost(self, model: str) -> None:
        """The host says that it does not have `model`."""
        station = self.stations.get(model)
        if self._installed is not None and station is not None:
            self._installed.pop(model, None)
            station.refresh_usable()
            station.learn(Told.ABSENT)

    def has(self, model: str) -> bool:
        """Say whether requests for `model` may go here; unknown inventories are given a chance."""
        return self._installed is None or model in self._installed

    def station(self, model: str) -> Station:
        """Return the host's place for `model`, made when a route first names it."""
        station = self.stations.get(model)
        if station is None:
            group = self.roster.group(model)
            station = self.stations[model] = Station(self, group, slots_of(self.settings))
        return station

    def gone(self) -> None:
        """Its process went away: what was in its memory is lost, and what ailed it, too."""
        self.version = ""
        self.breaker.on_gone()
        self.restarted()

    def restarted(self) -> None:
        """Its process is another one than at the last look: what was in its memory is lost."""
        self._resident = {}
        for station in self.stations.values():
            station.learn(Told.GONE)
            if station.breaker is not None:
                station.breaker.on_gone()
                station.refresh_usable()

    @property
    def loads(self) -> int:
        """How many models the gateway is loading here."""
        return sum(each.residency is _LOADING for each in self.stations.values())

    def on_answer(self, *, probe: bool) -> None:
        """A generation succeeded on one of its stations."""
        breaker = self.breaker
        if probe or breaker.failures or breaker.ejections:
            breaker.on_success(probe=probe)
        if self.roster.suspects:
            self.roster.suspects.discard(self)
        if self.ramp is not None and not probe:
            self.ramp.on_success()
            self.look_at_ramp()

    def look_at_ramp(self) -> None:
        """End the slow start if it has done its work; write anew who has a free slot."""
        slots = sum(station.slots for station in self.stations.values())
        if self.ramp is not None and self.ramp.is_over(self.roster.now_s, slots):
            self.ramp = None
            self.roster.ramping.discard(self)
        for station in self.stations.values():
            station.refresh_free()

    def _look(self) -> None:
        for station in self.stations.values():
            station.look()

    def _note_breaker(self, breaker: Breaker) -> None:
        available = breaker.state is AVAILABLE
        self.roster.set_available(self.bit, available=available)
        for station in self.stations.values():
            if station.group.divergent:  # who may vote has changed
                self.roster.dirty.add(station.group)
        slow_start_s = self._routing.slow_start_s
        if available and slow_start_s:
            self.ramp = Ramp(self.roster.now_s, slow_start_s)
            self.roster.ramping.add(self)
            self.look_at_ramp()

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.breaker.state.name} in_flight={self.in_flight}>"


def slots_of(backend: Backend) -> int:
    """Return how many requests one model of the backend may work on at once."""
    return backend.slots or (1 if backend.kind == "ollama" else UNLIMITED)


class Roster:
    """Every host there was since the start, by its bit."""

    __slots__ = (
        "available", "dirty", "groups", "hints", "hosts", "levels", "loading", "now_s", "on_vacant",
        "ramping", "ratios", "resting", "shared", "suspects", "withheld",
    )  # fmt: skip

    def __init__(self) -> None:
        self.shared: Claims[Station] | None = (
            None  # where several workers count together (core.tally)
        )
        self.hints: Telling[Station] | None = None  # where there are several gateways (core.hints)
        self.hosts: list[Host] = []  # by the position of their bits
        self.levels = [0]  # levels[n]: the hosts with n requests in flight, also of other gateways
        self.available = 0  # the hosts whose breaker is closed
        self.withheld = 0  # the others
        self.groups: dict[str, Group] = {}
        self.on_vacant: Callable[[Station], None] | None = None  # told of each request less
        self.now_s = 0.0  # of the last sweep or failure
        self.resting: set[Station] = set()  # ejected, or being tried
        self.loading: set[Station] = set()
        self.ramping: set[Host] = set()
        self.suspects: set[Host] = set()  # to be probed at once
        self.ratios = TokenRatios()
        self.dirty: set[Group] = set()  # to be looked at for different weights

    def sweep(self, now_s: float) -> None:
        """Let time pass: ejections of stations end, hosts that came back get more to do."""
        self.now_s = now_s
        for station in self.resting:
            station.refresh_usable()
        for host in list(self.ramping):
            host.look_at_ramp()
        for station in self.loading:
            if now_s - station.loading_s >= LOAD_PATIENCE_S:
                station.group.wait_no_more(station.host.bit)

    def enrol(self, host: Host) -> int:
        """Add a host, idle and available; return its bit."""
        bit = 1 << len(self.hosts)
        self.hosts.append(host)
        self.levels[0] |= bit
        self.available |= bit
        return bit

    def group(self, model: str) -> Group:
        """Return the stations of a model name."""
        group = self.groups.get(model)
        if group is None:
            group = self.groups[model] = Group(model)
        return group

    def set_available(self, bit: int, available: bool) -> None:  # noqa: FBT001 - a fact, not a switch
        """Note whether a host's breaker is closed."""
        self.available = self.available | bit if available else self.available & ~bit
        self.withheld = self.withheld & ~bit if available else self.withheld | bit

    def occupy(self, station: Station) -> None:
        """Count one more request; only a lease does this."""
        host, levels = station.host, self.levels
        bit, level = host.bit, host.in_flight + host.others
        levels[level] ^= bit
        level += 1
        host.in_flight += 1
        if level < len(levels):
            levels[level] ^= bit
        else:
            levels.append(bit)
        station.running += 1
        if station.running == station.room:
            station.group.set_free(bit, free=False)
        if host.ramp is not None:
            host.look_at_ramp()

    def vacate(self, station: Station) -> None:
        """Count one request less; only a lease does this."""
        host, levels = station.host, self.levels
        bit, level = host.bit, host.in_flight + host.others
        levels[level] ^= bit
        levels[level - 1] ^= bit
        host.in_flight -= 1
        if station.running == station.room:
            station.group.set_free(bit, free=True)
        station.running -= 1
        if host.ramp is not None:
            host.look_at_ramp()
        if self.on_vacant is not None:
            self.on_vacant(station)

    def set_others(self, host: Host, others: int) -> None:
        """Note how many requests of other gateways a host has."""
        if others == host.others:
            return
        levels, bit = self.levels, host.bit
        levels[host.in_flight + host.others] ^= bit
        host.others = others
        level = host.in_flight + others
        levels += [0] * (level + 1 - len(levels))
        levels[level] ^= bit

    def hosts_of(self, mask: int) -> list[Host]:
        """Return the hosts of a mask, in the order of their bits."""
        found = []
        while mask:
            bit = mask & -mask
            found.append(self.hosts[bit.bit_length() - 1])
            mask ^= bit
        return found
