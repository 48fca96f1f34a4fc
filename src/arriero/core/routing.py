"""Which host gets a request: one pure function per strategy, and the masks before them all.

A strategy is given a mask of hosts that may be asked, which is not empty, and returns a target on
one of them. Chance comes in as a number (`turn`, the count of decisions so far), so that every
decision can be replayed. What a decision costs must not grow with the fleet as fast as the fleet
does, so nobody here looks at every target, but for a shuffle that has no luck.
"""

from bisect import bisect_right
from collections.abc import Callable

from arriero.core.fleet import Alias, Target
from arriero.core.health import Cause
from arriero.core.roster import Roster, Station

StrategyFunction = Callable[[Alias, int, Roster, int], Target]

_TIES_MAX = 16  # how many equals are compared by their last use; a larger fleet gets a sample
_DRAWS_MAX = 8  # tries of a shuffle before it looks at every target
_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio: turns in a row come to lie far apart


def usable_mask(alias: Alias, roster: Roster, now_s: float) -> int:
    """Return the hosts that may be asked: model there, not ejected; their slots may be taken."""
    mask = 0
    for branch in alias.branches:
        mask |= branch.hosts & branch.group.usable
    return mask & _able(mask, roster, now_s)


def open_mask(alias: Alias, roster: Roster, now_s: float) -> int:
    """Return the hosts that may be asked now: the same, with a free slot."""
    mask = 0
    for branch in alias.branches:
        mask |= branch.hosts & branch.group.open
    if mask & roster.withheld:
        return mask & _able(mask, roster, now_s)
    return mask


def _able(mask: int, roster: Roster, now_s: float) -> int:
    """Return the available hosts and those of `mask` whose ejection is over."""
    able = roster.available
    for host in roster.hosts_of(mask & roster.withheld):
        if host.breaker.may_try(now_s):
            able |= host.bit
    return able


def last_resorts(alias: Alias, roster: Roster) -> int:
    """Return the ejected hosts worth asking before a request is given up.

    Their processes may be back since, and a refused connection costs a millisecond; a user's
    request costs more. What was silent is left out: trying it costs its whole timeout.
    """
    mask = found = 0
    for branch in alias.branches:
        group = branch.group
        mask |= branch.hosts & (group.usable | group.resort)
        found |= branch.hosts & group.resort & roster.available
    for host in roster.hosts_of(mask & roster.withheld):
        if host.breaker.cause is not Cause.SILENT:
            found |= host.bit
    return found


def askable(alias: Alias, roster: Roster, now_s: float, tried: int = 0) -> int | None:
    """Return the hosts to choose from now, besides those tried.

    0: none has a free slot, but waiting for one makes sense. None: there is nobody to wait for.
    """
    mask = open_mask(alias, roster, now_s) & ~tried
    if mask or usable_mask(alias, roster, now_s) & ~tried:
        return mask
    resorts = last_resorts(alias, roster) & ~tried
    if not resorts:
        return None
    free = 0
    for branch in alias.branches:
        free |= branch.hosts & branch.group.free
    return resorts & free


def may_go(station: Station, now_s: float) -> bool:
    """Say whether one more request may go to the station now."""
    host = station.host
    if not station.group.open & host.bit:
        return False
    return bool(host.roster.available & host.bit) or host.breaker.may_try(now_s)


def least_busy(alias: Alias, mask: int, roster: Roster, turn: int) -> Target:
    """Choose the host with the fewest requests in flight over all aliases.

    Ties go to a host that has the model loaded, then to the one used longest ago; LiteLLM gives
    every tie to the first entry of the file, so one host does all the work of a quiet day.
    """
    tied = mask
    for level in roster.levels:
        tied = mask & level
        if tied:
            break
    if tied & (tied - 1):  # more than one
        warm = 0
        for branch in alias.branches:
            warm |= branch.hosts & branch.group.resident
        tied = longest_unused(tied & warm or tied, roster, turn)
    return target_on(alias, tied)


def round_robin(alias: Alias, mask: int, roster: Roster, turn: int) -> Target:
    """Choose the host used longest ago, which visits all in turn even as hosts come and go."""
    return target_on(alias, longest_unused(mask, roster, turn))


def simple_shuffle(alias: Alias, mask: int, roster: Roster, turn: int) -> Target:  # noqa: ARG001 - one signature
    """Choose at random by weight; the chance is a hash of the turn, so it can be replayed."""
    weights, targets = alias.weights, alias.targets
    if weights[-1]:
        for draw in range(_DRAWS_MAX):
            point = _unit_interval(turn, draw) * weights[-1]
            target = targets[min(bisect_right(weights, point), len(targets) - 1)]
            if target.host.bit & mask & target.station.group.open:
                return target
    return _shuffle_of(_targets_on(alias, mask), turn)


def target_on(alias: Alias, bit: int) -> Target:
    """Return the alias's target on a host; of several, the first that is open."""
    targets = alias.by_bit[bit]
    if len(targets) > 1:
        for target in targets:
            if target.station.group.open & bit:
                return target
    return targets[0]


def longest_unused(mask: int, roster: Roster, turn: int) -> int:
    """Return the bit of the host used longest ago, among `_TIES_MAX` if there are many more."""
    if mask.bit_count() > _TIES_MAX:
        mask = _sample(mask, turn)
    hosts = roster.hosts
    best = mask & -mask
    mask ^= best
    oldest = hosts[best.bit_length() - 1].last_turn
    while mask:
        bit = mask & -mask
        mask ^= bit
        last_turn = hosts[bit.bit_length() - 1].last_turn
        if last_turn < oldest:
            best, oldest = bit, last_turn
    return best


def _sample(mask: int, turn: int) -> int:
    """Return `_TIES_MAX` hosts or a few less, from a place that the turn gives: all get theirs."""
    skipped = turn * _GOLDEN % mask.bit_length()
    mask = mask >> skipped << skipped or mask
    sample = 0
    for _ in range(_TIES_MAX):
        bit = mask & -mask
        sample |= bit
        mask ^= bit
    return sample


def _targets_on(alias: Alias, mask: int) -> list[Target]:
    found = [target for target in alias.targets if target.host.bit & mask]
    return [target for target in found if target.station.group.open & target.host.bit] or found


def _shuffle_of(targets: list[Target], turn: int) -> Target:
    # A draw of its own: those before it are known to have hit hosts that may not be asked.
    point = _unit_interval(turn, _DRAWS_MAX) * sum(target.weight for target in targets)
    for target in targets:
        point -= target.weight
        if point < 0:
            return target
    return targets[-1]


def _unit_interval(turn: int, draw: int) -> float:
    """Map a turn's draw to [0, 1) evenly and without visible order (splitmix64's finaliser)."""
    mask = 0xFFFFFFFFFFFFFFFF
    z = ((turn * (_DRAWS_MAX + 1) + draw) * _GOLDEN) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return float((z ^ (z >> 31)) >> 11) / float(1 << 53)


STRATEGIES: dict[str, StrategyFunction] = {
    "least-busy": least_busy,
    "round-robin": round_robin,
    "simple-shuffle": simple_shuffle,
}
