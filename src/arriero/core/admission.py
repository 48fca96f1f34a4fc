"""The gateway's queue: who waits, for how long at most, and whose turn it is when a slot is free.

Theory. Ollama queues without limit, without order and without telling anybody what it received
for a model that is loaded, so it is never sent more than it has slots for: the rest waits here.

Who is next, when a slot is free:

1. The most urgent *class* that has somebody waiting for such a slot. A request that has waited for
   `ageing_s` moves to the next class, so that nothing waits for ever behind more urgent ones.
2. In the class, a request that *came back* from a backend that failed: its turn had come before.
3. Else the principal with the lowest *counter* (`fairness`), and of that one's requests the oldest.
   With the strategy `adaptive`, of several with the same counter the one whose prompt the host has
   most of in its cache (`Line.nearest`).

Slots are shared by all aliases that lead to the same stations. The fleet calls the aliases that
share any, directly or by others, a *cell*; counters are kept for each cell and class, because work
on one model takes nothing from those who use another.

A request that finds a slot free and nobody waiting in its cell never comes here: `charge` is
all it costs. Every operation takes time in the logarithm of the number of those who wait, and in
proportion to the number of lanes at the station, of which there is one for each alias (and one more
for each set of hosts that failed somebody who waits).
"""

from collections import OrderedDict
from collections.abc import Iterator

from arriero.base.errors import QueueFull
from arriero.config.settings import Queueing
from arriero.core.adaptive import unread
from arriero.core.ask import Ask, Priority
from arriero.core.fairness import COMPLETION_WEIGHT, Charge, Ledger
from arriero.core.fleet import Alias
from arriero.core.line import Lane, Rank, Ticket
from arriero.core.roster import Group, Station
from arriero.core.turnover import Turnover

_CLASSES = tuple(Priority)


class _Cell:
    """What is shared by the aliases that share stations."""

    __slots__ = ("ledgers", "turnover", "waiting")

    def __init__(self) -> None:
        self.turnover = Turnover()
        self.waiting = 0
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget what everybody was served."""
        self.ledgers = tuple(Ledger() for _ in Priority)


class Queue:
    """All waiting requests of the gateway."""

    __slots__ = (
        "_ages", "_arrivals", "_cells", "_deadlines", "_deadlines_s", "_held", "_lanes",
        "_lanes_of", "_late", "limits", "waiting",
    )  # fmt: skip

    def __init__(self, limits: Queueing) -> None:
        self._cells: dict[int, _Cell] = {}
        self._lanes: dict[tuple[Alias, int], Lane] = {}
        self._lanes_of: dict[Group, dict[tuple[Alias, int], Lane]] = {}
        self._held: dict[str, int] = {}  # tickets of each principal
        self._arrivals = 0
        self.waiting = 0
        # All tickets of a class wait equally long for the same thing: the first is due first.
        self._deadlines: tuple[OrderedDict[Ticket, None], ...] = _for_each_class()
        self._ages: tuple[OrderedDict[Ticket, None], ...] = _for_each_class()
        self._late: list[Ticket] = []
        self.set_limits(limits)

    def set_limits(self, limits: Queueing) -> None:
        """Change the limits, as a reload does; they count for those who wait already, too.

        The counters begin anew: a reload may put aliases into other cells, and counters of two
        cells cannot be compared.
        """
        self.limits = limits
        self._deadlines_s = (
            limits.interactive_deadline_s,
            limits.default_deadline_s,
            limits.embedding_deadline_s,
            limits.background_deadline_s,
        )
        waiting = [ticket for line in self._ages for ticket in line]
        for ticket in waiting:
            self._take_out(ticket)
        for cell in self._cells.values():
            cell.begin_anew()
        for ticket in waiting:
            self._put_in(ticket)

    # -- without waiting

    def contended(self, alias: Alias) -> bool:
        """Say whether a new request has to wait its turn even if a slot is free."""
        if not self.waiting:
            return False
        cell = self._cells.get(alias.cell)
        return cell is not None and cell.waiting > 0

    def charge(self, alias: Alias, ask: Ask) -> Charge:
        """Charge a request that is served at once. Settle it when its work is known."""
        cell = self._cells.get(alias.cell) or self._cell(alias)
        work = ask.prompt_tokens + COMPLETION_WEIGHT * ask.output_tokens
        return cell.ledgers[ask.priority].admit(ask.principal, work)

    # -- waiting

    def join(self, ticket: Ticket, now_s: float) -> None:
        """Let a request wait for a slot on a host that it has not tried.

        One that was charged before returns from a backend that failed: it goes before all others of
        its class, and there is always room for it. Raises QueueFull.
        """
        assert ticket.lane is None, "it waits already"
        if ticket.charge is None:
            self._check_room(ticket, now_s)
        ask = ticket.ask
        ticket.returned = ticket.charge is not None
        ticket.late = False
        ticket.priority = ask.priority
        ticket.joined_s = ticket.moved_s = now_s
        cell = self._cell(ticket.alias)
        if not cell.waiting:
            cell.turnover.begin(now_s)
        self._held[ask.principal] = self._held.get(ask.principal, 0) + 1
        self._deadlines[ask.priority][ticket] = None
        self._put_in(ticket)

    def leave(self, ticket: Ticket) -> None:
        """The request waits no more: its client is gone. Does nothing if it does not wait."""
        if ticket.lane is not None:
            self._remove(ticket)
        elif ticket.late:
            ticket.late = False

    def next_for(self, station: Station, now_s: float, only: Lane | None = None) -> Ticket | None:
        """Take out and charge the request whose turn it is on the station, maybe of one lane."""
        self._pass_time(now_s)
        lanes = self._lanes_of.get(station.group)
        if not lanes:
            return None
        bit, group = station.host.bit, station.group
        those = lanes.values() if only is None else (only,)
        able = [lane for lane in those if lane.hosts[group] & bit]
        for priority in _CLASSES:
            best: Rank | None = None
            chosen: Lane | None = None
            for lane in able:
                rank = lane.lines[priority].rank()
                if rank is not None and (best is None or rank < best):
                    best, chosen = rank, lane
            if chosen is not None:
                return self._serve(_next_of(chosen, priority, station), now_s)
        return None

    def companion(self, ticket: Ticket, now_s: float) -> Ticket | None:
        """Take out and charge a request that may be answered together with one just taken out.

        The first of a batch was chosen fairly; who goes with it is a matter of age alone. All are
        charged, so whom the batch favours comes later at the next choice.
        """
        lane = self._lanes.get((ticket.alias, ticket.tried))
        other = lane.like(ticket.batch) if lane is not None else None
        return None if other is None else self._serve(other, now_s)

    def expired(self, now_s: float) -> list[Ticket]:
        """Take out and return the requests whose deadline has passed."""
        self._pass_time(now_s)
        if not self._late:
            return []
        late, self._late = self._late, []
        return [ticket for ticket in late if ticket.late]

    # -- what can be told

    def depths(self) -> tuple[int, ...]:
        """Return how many wait, by the class they came with."""
        return tuple(len(line) for line in self._deadlines)

    def demand(self) -> Iterator[tuple[Group, int]]:
        """Yield for whom there are requests: groups of stations, and masks of their hosts."""
        for group, lanes in self._lanes_of.items():
            mask = 0
            for lane in lanes.values():
                mask |= lane.hosts[group]
            yield group, mask

    def urgencies(self) -> dict[Group, int]:
        """Return for which groups of stations somebody waits, and in which class at best."""
        return {
            group: min(
                priority
                for lane in lanes.values()
                for priority in _CLASSES
                if lane.lines[priority].rank() is not None
            )
            for group, lanes in self._lanes_of.items()
        }

    def lanes(self) -> list[Lane]:
        """Return the lanes in which somebody waits."""
        return list(self._lanes.values())

    def retry_after_s(self, alias: Alias, now_s: float) -> int:
        """Return in how many whole seconds, from 1 to 60, the present queue will have gone by."""
        cell = self._cell(alias)
        return cell.turnover.wait_s(cell.waiting, now_s)

    # -- within

    def _cell(self, alias: Alias) -> _Cell:
        cell = self._cells.get(alias.cell)
        if cell is None:
            cell = self._cells[alias.cell] = _Cell()
        return cell

    def _check_room(self, ticket: Ticket, now_s: float) -> None:
        limits, alias = self.limits, ticket.alias
        if self._held.get(ticket.ask.principal, 0) >= limits.per_principal_max:
            raise QueueFull(
                f"{limits.per_principal_max} of your requests are waiting already",
                reason="principal",
                retry_after_s=self.retry_after_s(alias, now_s),
            )
        if self.waiting >= limits.length_max:
            raise QueueFull(
                "too many requests are waiting",
                reason="length",
                retry_after_s=self.retry_after_s(alias, now_s),
            )

    def _put_in(self, ticket: Ticket) -> None:
        """Let a ticket stand in the class it has now."""
        cell = self._cell(ticket.alias)
        ledger = cell.ledgers[ticket.priority]
        account = ticket.account = ledger.account(ticket.ask.principal)
        self._arrivals += 1
        ticket.number = self._arrivals
        lane = self._lane(ticket)
        line = lane.lines[ticket.priority]
        if not ticket.returned and not line.holds(account):
            ledger.lift(account, line.lowest())
        lane.add(ticket)
        cell.waiting += 1
        self.waiting += 1
        self._ages[ticket.priority][ticket] = None

    def _take_out(self, ticket: Ticket) -> None:
        """Undo `_put_in`."""
        lane = ticket.lane
        assert lane is not None, "it waits"
        lane.remove(ticket)
        if not lane.length:
            self._drop(lane)
        self._cell(ticket.alias).waiting -= 1
        self.waiting -= 1
        del self._ages[ticket.priority][ticket]

    def _lane(self, ticket: Ticket) -> Lane:
        key = (ticket.alias, ticket.tried)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key)
            for group in lane.hosts:
                self._lanes_of.setdefault(group, {})[key] = lane
        return lane

    def _drop(self, lane: Lane) -> None:
        del self._lanes[lane.key]
        for group in lane.hosts:
            lanes = self._lanes_of[group]
            del lanes[lane.key]
            if not lanes:
                del self._lanes_of[group]

    def _remove(self, ticket: Ticket) -> None:
        """Let a ticket go for good."""
        self._take_out(ticket)
        principal = ticket.ask.principal
        held = self._held[principal] - 1
        if held:
            self._held[principal] = held
        else:
            del self._held[principal]
        del self._deadlines[ticket.ask.priority][ticket]

    def _serve(self, ticket: Ticket, now_s: float) -> Ticket:
        cell = self._cell(ticket.alias)
        self._remove(ticket)
        if ticket.charge is None:
            assert ticket.account is not None, "it waited"
            ticket.charge = cell.ledgers[ticket.priority].serve(ticket.account, ticket.cost)
        cell.turnover.served(now_s)
        return ticket

    def _pass_time(self, now_s: float) -> None:
        """Take out who is late, and let those who have waited long enough move up a class."""
        for line, deadline_s in zip(self._deadlines, self._deadlines_s, strict=True):
            while line:
                ticket = next(iter(line))
                if now_s < ticket.joined_s + deadline_s:
                    break
                self._remove(ticket)
                ticket.late = True
                self._late.append(ticket)
        for priority in _CLASSES[1:]:
            line = self._ages[priority]
            while line:
                ticket = next(iter(line))
                if now_s < ticket.moved_s + self.limits.ageing_s:
                    break
                self._take_out(ticket)
                ticket.priority = Priority(priority - 1)
                ticket.moved_s = now_s
                self._put_in(ticket)


def _for_each_class() -> tuple[OrderedDict[Ticket, None], ...]:
    return tuple(OrderedDict() for _ in Priority)


def _next_of(lane: Lane, priority: Priority, station: Station) -> Ticket:
    """Return whose turn it is; where caches matter, equals are told apart by them."""
    line = lane.lines[priority]
    if lane.key[0].strategy != "adaptive":
        return line.next()
    return line.nearest(lambda ticket: unread(station, ticket.ask))
