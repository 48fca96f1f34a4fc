"""The roster of a gateway of several workers: what one counts, the others see.

Theory. The workers have one `Tally`: for each station the number of requests that each worker has
there. Deciding needs no lock: a worker looks at its own masks, which follow the others' news, two
milliseconds late at most where there is a slot. What must be exact is the last step alone, so a
station that was chosen is *claimed*: the tally says whether a slot is free in truth. Who is refused
has learnt that, and chooses again.

A slot that becomes free goes to the worker that was served longest ago among those that have the
most urgent request waiting for it; it is *promised* to that worker for a moment. Otherwise a worker
whose own queue is never empty would take each slot it gives back, and the others' clients would
wait for ever.

`in_flight` of a host and `running` of a station are those of all workers here; `foreign` is the
part of the others.
"""

from collections.abc import Iterable
from typing import Protocol

from arriero.core.roster import Group, Host, Roster, Station


class Tally(Protocol):
    """What the workers count together. Rows are numbers for names, the same in all workers."""

    def row(self, name: str) -> int:
        """Return the row of a name. Raises TallyFull when there are too many."""
        ...

    def claim(self, row: int, slots: int, seen: int) -> bool:
        """Count one more request if a slot is free and promised to nobody else.

        `seen` is how many are taken as far as the caller knows, which may be wrong.
        """
        ...

    def count(self, row: int) -> None:
        """Count one more request, whatever the others do."""
        ...

    def vacate(self, row: int, group_row: int) -> bool:
        """Count one less; True: the slot was promised to another worker, which has been told."""
        ...

    def may_claim(self, row: int, slots: int) -> bool:
        """Say whether a claim would do now."""
        ...

    def foreign(self, row: int) -> int:
        """Return how many requests the other workers have there."""
        ...

    def news(self) -> Iterable[int]:
        """Return the rows that other workers changed since the last call."""
        ...

    def want(self, group_row: int, urgency: int | None) -> None:
        """Tell who waits here for stations of a group: the lower the more urgent; None: nobody."""
        ...


class TallyFull(Exception):
    """More names than can be counted together."""


class SharedRoster(Roster):
    """A roster whose requests are counted over all workers."""

    __slots__ = (
        "_claimed", "_group_rows", "_refused", "_rows", "_stations", "_tally", "_wanted",
        "looked_s",
    )  # fmt: skip

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self.shared = self
        self._tally = tally
        self._rows: dict[Station, int] = {}
        self._stations: dict[int, Station] = {}  # of a row, the one of the latest settings
        self._group_rows: dict[Group, int] = {}
        self.looked_s = 0.0  # when it last caught up, as far as its caller told
        self._claimed: Station | None = None  # its lease is taken within the same turn of the loop
        self._refused: set[Station] = set()  # closed until the tally would let us claim again
        self._wanted: set[Group] = set()  # those for which the others were told that we wait

    def follow(self, hosts: Iterable[Host]) -> None:
        """See what the others do on these hosts, and on all before. Raises TallyFull."""
        for host in hosts:
            for station in host.stations.values():
                if station not in self._rows:
                    row = self._tally.row(f"station {host.settings.url} {station.model}")
                    group_row = self._tally.row(f"group {station.model}")
                    self._rows[station], self._stations[row] = row, station
                    self._group_rows[station.group] = group_row
                    self._see(station, row)

    def claim(self, station: Station) -> bool:
        """Have a slot, for a lease that is taken at once; if not, the station is closed for now."""
        if self._claimed is not None:
            self._give_back()
        row = self._rows[station]
        if self._tally.claim(row, station.slots, station.running):
            self._claimed = station
            return True
        self._see(station, row)
        self._close(station)
        return False

    def catch_up(self) -> None:
        """Take over what the others did since the last time."""
        self._give_back()
        for row in self._tally.news():
            station = self._stations.get(row)
            if station is not None:
                self._see(station, row)
        for station in list(self._refused):
            if self._tally.may_claim(self._rows[station], station.slots):
                self._refused.discard(station)
                station.refresh_free()
                if self.on_vacant is not None:
                    self.on_vacant(station)

    @property
    def refused(self) -> bool:
        """Whether a station is closed until the tally lets us claim, of which nobody tells us."""
        return bool(self._refused)

    def want(self, urgencies: dict[Group, int]) -> None:
        """Tell the others for what we wait, so that they give us our share of free slots."""
        for group in self._wanted - urgencies.keys():
            self._tally.want(self._group_rows[group], None)
        for group, urgency in urgencies.items():
            self._tally.want(self._group_rows[group], urgency)
        self._wanted = set(urgencies)

    def sweep(self, now_s: float) -> None:
        """Let time pass, and look at everything: news may be lost, and so may workers."""
        super().sweep(now_s)
        for row, station in self._stations.items():
            self._see(station, row)
        self.catch_up()

    def occupy(self, station: Station) -> None:
        """Count one more request; only a lease does this."""
        if self._claimed is station:
            self._claimed = None
        else:
            self._tally.count(self._rows[station])
        _occupy(self, station)

    def vacate(self, station: Station) -> None:
        """Count one request less; only a lease does this."""
        promised = self._tally.vacate(self._rows[station], self._group_rows[station.group])
        _vacate(self, station)
        if promised:
            self._close(station)
        elif station in self._refused:
            self._refused.discard(station)
            station.refresh_free()

    def _close(self, station: Station) -> None:
        """Ask it no more until the tally says that a claim would do."""
        self._refused.add(station)
        station.group.set_free(station.host.bit, free=False)

    def _give_back(self) -> None:
        """Undo a claim that no lease followed, because an error came between."""
        station, self._claimed = self._claimed, None
        if station is not None:
            self._tally.vacate(self._rows[station], self._group_rows[station.group])

    def _see(self, station: Station, row: int) -> None:
        """Take over what the others have under way on a station."""
        more = self._tally.foreign(row) - station.foreign
        if not more:
            return
        host, levels = station.host, self.levels
        levels[host.in_flight + host.others] ^= host.bit
        host.in_flight += more
        host.foreign += more
        level = host.in_flight + host.others
        levels.extend([0] * (level + 1 - len(levels)))
        levels[level] ^= host.bit
        station.running += more
        station.foreign += more
        if station not in self._refused:
            station.refresh_free()
        if host.ramp is not None:
            host.look_at_ramp()
        if more < 0 and self.on_vacant is not None:
            self.on_vacant(station)


# With every request: looking them up by `super` costs as much as they do.
_occupy = Roster.occupy
_vacate = Roster.vacate
