"""Which host gets a request: one pure function per strategy, and the filter before them all.

A strategy sees the candidates in the order of the configuration and returns one of them. Chance
comes in as a number (`turn`, the count of decisions so far), so that every decision can be
replayed.
"""

from collections.abc import Callable, Collection, Sequence

from arriero.core.fleet import Alias, Host, Target
from arriero.core.health import AVAILABLE, Cause

StrategyFunction = Callable[[Sequence[Target], int], Target]


def candidates(alias: Alias, now_s: float, tried: Collection[Host] = ()) -> list[Target]:
    """Return the targets that may be asked now: model there, not ejected, not yet tried."""
    found = []
    for target in alias.targets:  # spelt out, because every request goes through it
        host = target.host
        installed = host.installed  # None: not known yet, which is given a chance
        if installed is not None and target.model not in installed:
            continue
        breaker = host.breaker
        if breaker.state is not AVAILABLE and not breaker.may_try(now_s):
            continue
        if not tried or host not in tried:
            found.append(target)
    return found


def last_resorts(alias: Alias, tried: Collection[Host]) -> list[Target]:
    """Return the ejected targets worth asking before a request is given up.

    Their processes may be back since, and a refused connection costs a millisecond; a user's
    request costs more. Silent hosts are left out: trying one costs its whole timeout.
    """
    return [
        target
        for target in alias.targets
        if target.host not in tried
        and target.host.has(target.model)
        and target.host.breaker.cause is not Cause.SILENT
    ]


def least_busy(targets: Sequence[Target], turn: int) -> Target:  # noqa: ARG001 - one signature
    """Choose the host with the fewest requests in flight over all aliases.

    Ties go to a host that has the model loaded, then to the one used longest ago; LiteLLM gives
    every tie to the first entry of the file, so one host does all the work of a quiet day.
    """
    best = targets[0]
    fewest = best.host.in_flight
    for target in targets[1:]:
        in_flight = target.host.in_flight
        if in_flight < fewest or (in_flight == fewest and _rank(target) < _rank(best)):
            best, fewest = target, in_flight
    return best


def _rank(target: Target) -> tuple[bool, int]:
    """Order hosts that are equally busy: those with the model loaded, then the longest unused."""
    host = target.host
    return target.model not in host.resident, host.last_turn


def round_robin(targets: Sequence[Target], turn: int) -> Target:  # noqa: ARG001 - one signature
    """Choose the host used longest ago, which visits all in turn even as hosts come and go."""
    return min(targets, key=lambda target: target.host.last_turn)


def simple_shuffle(targets: Sequence[Target], turn: int) -> Target:
    """Choose at random by weight; the chance is a hash of the turn, so it can be replayed."""
    total = sum(target.weight for target in targets)
    point = _unit_interval(turn) * total
    for target in targets:
        point -= target.weight
        if point < 0:
            return target
    return targets[-1]


def _unit_interval(turn: int) -> float:
    """Map a turn to [0, 1) evenly and without visible order (splitmix64's finaliser)."""
    mask = 0xFFFFFFFFFFFFFFFF
    z = (turn * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return float((z ^ (z >> 31)) >> 11) / float(1 << 53)


STRATEGIES: dict[str, StrategyFunction] = {
    "least-busy": least_busy,
    "round-robin": round_robin,
    "simple-shuffle": simple_shuffle,
}
