"""Whose turn it is: virtual token counters, after VTC (arXiv 2401.00588).

Theory. Each principal has a counter of the work done for it, and the one with the lowest counter is
served next. So two principals that both have requests waiting receive the same number of tokens, to
within a bound that does not grow with time, however many requests either of them sends, and however
long they are: a queue that is fair by request gives him most who asks for most tokens at once.

- *Work* is `prompt + 2 x completion` tokens. The paper measured how much more a generated token
  costs than a read one and takes 2, as do price lists (mostly 2 to 5). Cached prompt tokens
  count in full: what the cache saves depends on where a request was routed, not on who asked.
- *Estimates before, settlement after.* What an answer will cost is not known when it is let
  through, so an estimate is charged, and the difference once the backend has counted. Without the
  estimate, one principal could take every slot before the first of its answers is counted.
- *Lift.* A counter that fell behind while its owner asked for nothing is lifted to the level of
  those who are served: idle time is not saved up. The level (`floor`) is the counter at which
  somebody was last served, the highest ever; where others wait in the same line, it is the lowest
  of theirs, as in the paper.
- *Ties* go to whom it is longest since they were served. A newcomer is lifted to the lowest of
  those who wait, so it would otherwise queue behind them all; this way it is next.

The bound: with `S` requests at work at a time, none of which costs, or is guessed to cost, more
than `C`, all counters of those who wait stay within `S x C` of the floor. The service of two
principals therefore differs by at most twice that over any span in which both wait. (In the paper's
words: 2 max(w_p L, w_q M), where M is the number of tokens that may be at work at a time.)
"""

from typing import Protocol

import msgspec

from arriero.core.record import Record

COMPLETION_WEIGHT = 2
EVENT_BYTES = 256  # what a streamed token takes on the wire, its JSON included
ACCOUNTS_MAX = 8192  # beyond, the idle ones that owe least are forgotten
# Below this number of accounts nobody looks for those that can be forgotten.
_ACCOUNTS_KEPT = 256


def cost_of(prompt_tokens: int, completion_tokens: int) -> int:
    """Return the work of a request."""
    return prompt_tokens + COMPLETION_WEIGHT * completion_tokens


def work_of(record: Record, estimate: int) -> int:
    """Return what a request came to, as far as it is known.

    Of an answer that was not counted to its end, the estimate stands, or what was sent of it if
    that is more: whoever hangs up early has used the time all the same. A request that got nothing
    owes nothing.
    """
    counted = record.prompt_tokens + COMPLETION_WEIGHT * record.completion_tokens
    if counted:
        return counted
    if record.outcome == "client_gone" or record.first_token_s >= 0:
        return max(estimate, cost_of(0, record.response_bytes // EVENT_BYTES))
    return estimate if record.outcome == "ok" else 0


class Place(Protocol):
    """Where a principal waits."""

    def reorder(self) -> None:
        """Its counter went down: it may be due earlier."""
        ...


class Account:
    """One principal's counter in one ledger."""

    __slots__ = ("counter", "open", "places", "turn")

    def __init__(self, counter: int) -> None:
        self.counter = counter
        self.turn = 0  # of the last service: the longest unserved breaks ties
        self.open = 0  # charges that are not settled
        self.places: set[Place] = set()  # where it has requests waiting


class Charge(msgspec.Struct, eq=False):
    """What one request was charged. It is settled once."""

    account: Account
    cost: int
    settled: bool = False

    def settle(self, cost: int) -> None:
        """Replace the estimate by what the request came to."""
        assert not self.settled, "a charge is settled once"
        self.settled = True
        account = self.account
        account.open -= 1
        more = cost - self.cost
        account.counter += more
        if account.places and more < 0:
            for place in account.places:
                place.reorder()


class Ledger:
    """The counters of all who share the same slots in the same class."""

    __slots__ = ("_prune_at", "_turn", "accounts", "floor")

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.floor = 0  # the highest counter at which somebody was served
        self._turn = 0
        self._prune_at = _ACCOUNTS_KEPT

    def account(self, principal: str) -> Account:
        """Return the account; a new one begins at the floor."""
        account = self.accounts.get(principal)
        if account is None:
            if len(self.accounts) >= self._prune_at:
                self._prune()
            account = self.accounts[principal] = Account(self.floor)
        return account

    def admit(self, principal: str, cost: int) -> Charge:
        """Charge a request that is served at once, because nobody waits.

        As `lift` and `serve`, in one piece: every request comes by here.
        """
        account = self.accounts.get(principal) or self.account(principal)
        counter, floor = account.counter, self.floor
        if counter < floor:
            counter = floor
        elif counter > floor:
            self.floor = counter
        self._turn = account.turn = self._turn + 1
        account.counter = counter + cost
        account.open += 1
        return Charge(account, cost)

    def serve(self, account: Account, cost: int) -> Charge:
        """Charge a request whose turn it is."""
        counter = account.counter
        self.floor = max(self.floor, counter)
        self._turn += 1
        account.turn = self._turn
        account.counter = counter + cost
        account.open += 1
        return Charge(account, cost)

    def lift(self, account: Account, lowest: int | None) -> None:
        """Let nobody begin to wait with idle time saved up.

        `lowest` is the lowest counter of those who wait in the same line, None if nobody does.
        """
        level = self.floor if lowest is None else lowest
        account.counter = max(account.counter, level)

    def _prune(self) -> None:
        """Forget who has nothing at work or waiting, and would be lifted to the floor anyway.

        If too many are left, who never came back after one request each, those who owe least go
        too: being forgotten is then a small favour, and memory has a limit.
        """
        kept = {
            name: account
            for name, account in self.accounts.items()
            if account.counter > self.floor or account.open or account.places
        }
        if len(kept) >= ACCOUNTS_MAX:
            idle = [name for name, one in kept.items() if not (one.open or one.places)]
            idle.sort(key=lambda name: kept[name].counter)
            for name in idle[: len(kept) - ACCOUNTS_MAX // 2]:
                del kept[name]
        self.accounts = kept
        # Doubling makes the work of looking constant for each new account.
        self._prune_at = max(2 * len(kept), _ACCOUNTS_KEPT)
