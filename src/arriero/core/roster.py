"""What is known of every host and of each model on it, kept as bitmasks beside the objects.

Theory. A `Host` is one backend, a `Station` one model on one host, a `Group` all stations of one
model name. Each host has a bit. Who may be asked for a model is then an `&` of three integers, and
who of them is least busy the first level that shares a bit with it: a fleet of a thousand hosts
costs little more than one of two. The masks repeat what hosts and stations say; they are written
where those change (`Host`, `Station`, leases) and nowhere else, and a state machine test holds both
together.

`Host.in_flight` counts the requests a host is working on, whatever alias they came by: a counter
per alias cannot see that a host is busy with another model (LiteLLM's fault 4, research 3).

A roster lives as long as the process. A reload keeps the hosts whose settings did not change, and a
bit is never given to another host, so that requests under way may go on with the aliases they know.
"""

from arriero.config.settings import Backend, Routing
from arriero.core.health import AVAILABLE, Breaker
from arriero.wire.inventory import Listed, Loaded

UNLIMITED = 1_000_000_000  # slots, where the backend's own scheduler is trusted


class Group:
    """All stations of one model name. Masks have one bit for each host."""

    __slots__ = ("free", "model", "open", "resident", "usable")

    def __init__(self, model: str) -> None:
        self.model = model
        self.usable = 0  # the model is there, as far as is known
        self.free = 0  # a slot is free
        self.open = 0  # both
        self.resident = 0  # the model is loaded

    def set_usable(self, bit: int, usable: bool) -> None:  # noqa: FBT001 - a fact, not a switch
        """Note whether requests for the model may go to the host."""
        self.usable = self.usable | bit if usable else self.usable & ~bit
        self.open = self.usable & self.free

    def set_free(self, bit: int, free: bool) -> None:  # noqa: FBT001 - a fact, not a switch
        """Note whether the host has a slot for the model."""
        self.free = self.free | bit if free else self.free & ~bit
        self.open = self.usable & self.free

    def set_resident(self, bit: int, resident: bool) -> None:  # noqa: FBT001 - a fact, not a switch
        """Note whether the host has the model loaded."""
        self.resident = self.resident | bit if resident else self.resident & ~bit


class Station:
    """One model on one host: it has so many slots, and `running` of them are taken."""

    __slots__ = ("group", "host", "model", "running", "slots")

    def __init__(self, host: "Host", group: Group, slots: int) -> None:
        self.host = host
        self.group = group
        self.model = group.model
        self.slots = slots
        self.running = 0
        group.set_free(host.bit, free=True)
        self.look()

    def set_slots(self, slots: int) -> None:
        """Change the slots, as a reload does; requests beyond them finish first."""
        self.slots = slots
        self.group.set_free(self.host.bit, free=self.running < slots)

    def look(self) -> None:
        """Take over what the host knows of the model."""
        host = self.host
        self.group.set_usable(host.bit, usable=host.has(self.model))
        self.group.set_resident(host.bit, resident=self.model in host.resident)

    @property
    def resident(self) -> bool:
        """Whether the model is loaded."""
        return self.group.resident & self.host.bit != 0

    def __repr__(self) -> str:
        return f"<Station {self.model} on {self.host.name}: {self.running}/{self.slots}>"


class Host:
    """One backend as the gateway knows it. Written only by leases and the inventory."""

    __slots__ = (
        "_installed", "_resident", "bit", "breaker", "in_flight", "kind", "last_turn", "name",
        "roster", "served", "settings", "stations", "version",
    )  # fmt: skip

    def __init__(self, settings: Backend, routing: Routing, roster: "Roster") -> None:
        self.settings = settings
        self.name = settings.name
        self.kind = settings.kind
        self.roster = roster
        self.in_flight = 0
        self.served = 0  # leases ever given
        self.last_turn = 0  # turn of the last lease: least recently used breaks ties
        self.version = ""
        self.stations: dict[str, Station] = {}
        self._installed: dict[str, Listed] | None = None
        self._resident: dict[str, Loaded] = {}
        self.breaker = Breaker(
            failures_max=routing.failures_max,
            ejection_s=routing.ejection_s,
            ejection_max_s=routing.ejection_max_s,
            on_change=self._note_breaker,
        )
        self.bit = roster.enrol(self)

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

    def lost(self, model: str) -> None:
        """The host says that it does not have `model`."""
        if self._installed is not None:
            self._installed.pop(model, None)
            self._look()

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

    def _look(self) -> None:
        for station in self.stations.values():
            station.look()

    def _note_breaker(self, breaker: Breaker) -> None:
        self.roster.set_available(self.bit, available=breaker.state is AVAILABLE)

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.breaker.state.name} in_flight={self.in_flight}>"


def slots_of(backend: Backend) -> int:
    """Return how many requests one model of the backend may work on at once."""
    return backend.slots or UNLIMITED


class Roster:
    """Every host there was since the start, by its bit."""

    __slots__ = ("available", "groups", "hosts", "levels", "withheld")

    def __init__(self) -> None:
        self.hosts: list[Host] = []  # by the position of their bits
        self.levels = [0]  # levels[n]: the hosts with n requests in flight
        self.available = 0  # the hosts whose breaker is closed
        self.withheld = 0  # the others
        self.groups: dict[str, Group] = {}

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
        bit, in_flight = host.bit, host.in_flight
        levels[in_flight] ^= bit
        in_flight += 1
        host.in_flight = in_flight
        if in_flight < len(levels):
            levels[in_flight] ^= bit
        else:
            levels.append(bit)
        station.running += 1
        if station.running == station.slots:
            station.group.set_free(bit, free=False)

    def vacate(self, station: Station) -> None:
        """Count one request less; only a lease does this."""
        host, levels = station.host, self.levels
        bit, in_flight = host.bit, host.in_flight
        levels[in_flight] ^= bit
        in_flight -= 1
        host.in_flight = in_flight
        levels[in_flight] ^= bit
        if station.running == station.slots:
            station.group.set_free(bit, free=True)
        station.running -= 1

    def hosts_of(self, mask: int) -> list[Host]:
        """Return the hosts of a mask, in the order of their bits."""
        found = []
        while mask:
            bit = mask & -mask
            found.append(self.hosts[bit.bit_length() - 1])
            mask ^= bit
        return found
