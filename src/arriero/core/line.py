"""One line of waiting requests: fair between principals, first come first served within each.

Theory. A line holds the tickets of one lane (below) and one priority class. Its principals stand in
a heap by (counter, turn of the last service), so that the first is found at once. Counters change
while their owners wait: one that went up is found out when it comes to the top and is put back
where it belongs; one that went down is entered a second time, and the older entry is dropped when
it is met. Either way an operation costs the logarithm of the number of principals that wait.
"""

from collections import OrderedDict
from collections.abc import Callable
from heapq import heapify, heappop, heappush, heapreplace

from arriero.core.ask import Ask, Priority
from arriero.core.fairness import Account, Charge, cost_of
from arriero.core.fleet import Alias
from arriero.core.roster import Group

PASSED_MAX = 8  # how often a request lets another go first that has more in the cache
_LOOKED_AT = 15  # four levels of the heap
_LITTER_MAX = 16  # superseded entries a heap may hold beside as many as it has good ones

# (counter, turn of the last service, order of arrival): lower is earlier.
Rank = tuple[int, int, int]
_FIRST_COUNTER = -1  # below any counter: who comes back from a failed attempt has been served once


class Ticket:
    """A request's place in the queue. `waiter` is whoever is to be told; nobody here looks at it.

    `tried` is a mask of the hosts that are no use to it. `batch` is equal for requests that may be
    answered together, None for one that must not.
    """

    __slots__ = (
        "account", "alias", "ask", "batch", "charge", "joined_s", "lane", "late", "moved_s",
        "number", "passed", "priority", "returned", "tried", "waiter",
    )  # fmt: skip

    def __init__(
        self,
        alias: Alias,
        ask: Ask,
        waiter: object,
        *,
        tried: int = 0,
        charge: Charge | None = None,
        batch: object = None,
    ) -> None:
        self.alias = alias
        self.ask = ask
        self.waiter = waiter
        self.tried = tried
        self.charge = charge  # set from when its turn came for the first time
        self.batch = batch
        # The rest is the queue's own.
        self.account: Account | None = None  # in the ledger of its present class
        self.lane: Lane | None = None  # None: it does not wait
        self.late = False  # its deadline passed while it waited
        self.returned = False  # its turn had come before, at a backend that failed
        self.priority: Priority = ask.priority  # the class it stands in; age improves it
        self.number = 0  # of its arrival in that class
        self.joined_s = 0.0
        self.moved_s = 0.0  # when it came into that class
        self.passed = 0  # how often another with the same claim was preferred

    @property
    def cost(self) -> int:
        """The estimate of its work."""
        return cost_of(self.ask.prompt_tokens, self.ask.output_tokens)


class Place:
    """One principal's tickets in a line, and its entry in the line's heap."""

    __slots__ = ("account", "entry", "line", "tickets")

    def __init__(self, line: "Line", account: Account) -> None:
        self.line = line
        self.account = account
        self.tickets: OrderedDict[Ticket, None] = OrderedDict()
        self.entry: tuple[int, int, int, Place] | None = None

    def reorder(self) -> None:
        """Enter it anew, because it may be due earlier than its entry says."""
        self.line.enter(self)


class Line:
    """The tickets of one lane and class."""

    __slots__ = ("_heap", "_places", "_returned", "length")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int, Place]] = []
        self._places: dict[Account, Place] = {}
        self._returned: OrderedDict[Ticket, None] = OrderedDict()
        self.length = 0

    def holds(self, account: Account) -> bool:
        """Say whether the principal waits here."""
        return account in self._places

    def lowest(self) -> int | None:
        """Return the lowest counter of those who wait, None if nobody does."""
        best = self._best()
        return best.account.counter if best is not None else None

    def add(self, ticket: Ticket) -> None:
        """Put the ticket behind those of its principal."""
        self.length += 1
        if ticket.returned:
            self._returned[ticket] = None
            return
        account = ticket.account
        assert account is not None, "the queue has given it one"
        place = self._places.get(account)
        if place is None:
            place = self._places[account] = Place(self, account)
            account.places.add(place)
            place.tickets[ticket] = None
            self.enter(place)
        else:
            place.tickets[ticket] = None

    def remove(self, ticket: Ticket) -> None:
        """Take the ticket out, wherever it stands."""
        self.length -= 1
        if ticket.returned:
            del self._returned[ticket]
            return
        account = ticket.account
        assert account is not None, "the queue has given it one"
        place = self._places[account]
        del place.tickets[ticket]
        if not place.tickets:
            del self._places[account]
            account.places.discard(place)
            place.entry = None

    def tickets(self) -> list[Ticket]:
        """Return all who wait here, in no order that means anything."""
        waiting = [ticket for place in self._places.values() for ticket in place.tickets]
        return [*self._returned, *waiting]

    def rank(self) -> Rank | None:
        """Return how early the next ticket is due, None if nobody waits."""
        if self._returned:
            return (_FIRST_COUNTER, 0, next(iter(self._returned)).number)
        best = self._best()
        return best.entry[:3] if best is not None and best.entry is not None else None

    def next(self) -> Ticket:
        """Return the next ticket, which stays where it is; somebody must be waiting."""
        if self._returned:
            return next(iter(self._returned))
        best = self._best()
        assert best is not None, "the line is empty"
        return next(iter(best.tickets))

    def nearest(self, unread: Callable[[Ticket], float]) -> Ticket:
        """Return the ticket with least to read of those with the same claim as the next one.

        The same claim is an equal counter: whoever of them goes first, the bound of the fairness
        holds. A principal that was never served is not passed over, and nobody more than
        `PASSED_MAX` times.
        """
        first = self.next()
        account = first.account
        if first.returned or first.passed >= PASSED_MAX or account is None or not account.turn:
            return first
        best, least = first, unread(first)
        for entry in self._heap[:_LOOKED_AT]:  # the top of a heap has the lowest, or nearly
            place = entry[3]
            if place.entry is entry and place.account.counter == account.counter:
                ticket = next(iter(place.tickets))
                tokens = unread(ticket)
                if tokens < least:
                    best, least = ticket, tokens
        if best is not first:
            first.passed += 1
        return best

    def enter(self, place: Place) -> None:
        """Put a place in the heap by its present counter."""
        heap = self._heap
        if len(heap) > 2 * len(self._places) + _LITTER_MAX:
            heap[:] = [entry for entry in heap if entry[3].entry is entry]
            heapify(heap)
        place.entry = _entry(place)
        heappush(heap, place.entry)

    def _best(self) -> Place | None:
        heap = self._heap
        while heap:
            entry = heap[0]
            place = entry[3]
            if place.entry is not entry:
                heappop(heap)  # left, or entered anew
                continue
            now = _entry(place)
            if now[:3] == entry[:3]:
                return place
            place.entry = now
            heapreplace(heap, now)
        return None


def _entry(place: Place) -> tuple[int, int, int, Place]:
    account = place.account
    return (account.counter, account.turn, next(iter(place.tickets)).number, place)


class Lane:
    """The tickets that can be served by the same hosts: of one alias, with the same hosts tried.

    `hosts` are masks by the group of stations.
    """

    __slots__ = ("_batches", "hosts", "key", "length", "lines")

    def __init__(self, key: tuple[Alias, int]) -> None:
        alias, tried = key
        self.key = key
        self.hosts: dict[Group, int] = {
            branch.group: branch.hosts & ~tried for branch in alias.branches
        }
        self.lines = tuple(Line() for _ in Priority)
        self.length = 0
        self._batches: dict[object, OrderedDict[Ticket, None]] = {}

    def add(self, ticket: Ticket) -> None:
        """Let a ticket wait here."""
        ticket.lane = self
        self.length += 1
        self.lines[ticket.priority].add(ticket)
        if ticket.batch is not None:
            self._batches.setdefault(ticket.batch, OrderedDict())[ticket] = None

    def remove(self, ticket: Ticket) -> None:
        """Take a ticket out."""
        ticket.lane = None
        self.length -= 1
        self.lines[ticket.priority].remove(ticket)
        if ticket.batch is not None:
            alike = self._batches[ticket.batch]
            del alike[ticket]
            if not alike:
                del self._batches[ticket.batch]

    def tickets(self) -> list[Ticket]:
        """Return all who wait here, in no order that means anything."""
        return [ticket for line in self.lines for ticket in line.tickets()]

    def like(self, batch: object) -> Ticket | None:
        """Return the ticket that has waited longest of those that may be answered together."""
        alike = self._batches.get(batch)
        return next(iter(alike)) if alike else None
