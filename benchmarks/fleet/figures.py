"""What a run came to: waiting, goodput, what was shed, what the caches spared, who got how much."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from arriero.core.fairness import cost_of
from benchmarks.fleet.engine import Engine, Request

SLO_S: Final = 5.0  # a first token within this counts as good; our choice
WARM_UP: Final = 0.2  # of the time until the last session begins: caches fill, nothing is counted
FAIR_USERS_MAX: Final = 4  # with more users their pairs say little


@dataclass(frozen=True)
class Figures:
    """One policy on one trace, over all seeds. Times are seconds, gaps are tokens of work.

    Requests that nobody waits for count for `hit_rate` and `busy` only.
    """

    requests: int
    ttft_p50_s: float
    ttft_p95_s: float
    ttft_p99_s: float
    good: float  # share of all requests answered within the SLO
    goodput: float  # such requests a second
    refused: float  # share that was told to come back later
    failed: float  # share that ended in an error
    hit_rate: float  # share of prompt tokens that were cached
    busy: float  # share of the slots' time that was used
    loads: int
    gap_tokens: float  # largest difference in service between two backlogged users


@dataclass
class Sample:
    """What is kept of a run, to be put together with those of other seeds."""

    requests: list[Request]
    seconds: float
    slots: int
    loads: int
    gap_tokens: float


def sample(engine: Engine) -> Sample:
    """Return what is counted of a run: requests that arrived while sessions still began."""
    last_s = engine.trace.sessions[-1].start_s
    first_s = WARM_UP * last_s
    counted = [one for one in engine.requests if first_s <= one.arrived_s <= last_s]
    return Sample(
        counted,
        last_s - first_s,
        sum(host.spec.slots for host in engine.hosts),
        sum(host.loads_made for host in engine.hosts),
        largest_gap(engine.requests),
    )


def figures(samples: Sequence[Sample]) -> Figures:
    """Return the figures of all seeds together."""
    everything = [one for part in samples for one in part.requests]
    requests = [one for one in everything if not one.turn.background]
    ttfts = sorted(one.ttft_s for one in requests if one.outcome == "ok")
    good = sum(ttft <= SLO_S for ttft in ttfts)
    seconds = sum(part.seconds for part in samples)
    jobs = [one.job for one in everything if one.job is not None and one.outcome == "ok"]
    prompt_tokens = sum(job.turn.prompt_tokens for job in jobs)
    slot_seconds = sum(part.seconds * part.slots for part in samples)
    return Figures(
        requests=len(requests),
        ttft_p50_s=percentile(ttfts, 0.50),
        ttft_p95_s=percentile(ttfts, 0.95),
        ttft_p99_s=percentile(ttfts, 0.99),
        good=good / len(requests),
        goodput=good / seconds,
        refused=sum(one.outcome == "refused" for one in requests) / len(requests),
        failed=sum(one.outcome == "failed" for one in requests) / len(requests),
        hit_rate=sum(job.cached_tokens for job in jobs) / max(prompt_tokens, 1),
        busy=sum(job.end_s - job.started_s for job in jobs) / slot_seconds,
        loads=sum(part.loads for part in samples),
        gap_tokens=max(part.gap_tokens for part in samples),
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of all values do not exceed."""
    if not ordered:
        return float("nan")
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def largest_gap(requests: Sequence[Request]) -> float:
    """Return the most by which the service of two users drifts apart while both are backlogged.

    Service is what VTC counts, when it is given: prompt tokens and twice the answer's. A user is
    backlogged while a request of theirs has arrived and not been started. 0 when there are many
    users.
    """
    users = sorted({one.turn.user for one in requests})
    if not 1 < len(users) <= FAIR_USERS_MAX:
        return 0.0
    return max(_gap_of(requests, pair) for pair in combinations(users, 2))


def _gap_of(requests: Sequence[Request], pair: tuple[str, str]) -> float:
    sign = {pair[0]: 1, pair[1]: -1}
    events: list[tuple[float, int, str, int]] = []
    for one in requests:
        if one.turn.user in sign and one.job is not None and one.job.started_s >= 0:
            work = cost_of(one.turn.prompt_tokens, one.turn.answer.tokens)
            events.append((one.arrived_s, 0, one.turn.user, 0))
            events.append((one.job.started_s, 1, one.turn.user, work))
    return max(_drifts(sorted(events), sign), default=0.0)


def _drifts(events: Sequence[tuple[float, int, str, int]], sign: dict[str, int]) -> Iterator[float]:
    """Yield, event by event, how far the difference has moved since both became backlogged."""
    waiting = dict.fromkeys(sign, 0)
    difference = lowest = highest = 0.0
    for _, started, user, work in events:
        waiting[user] += -1 if started else 1
        if all(waiting.values()):
            difference += sign[user] * work
            lowest, highest = min(lowest, difference), max(highest, difference)
            yield highest - lowest
        else:
            difference = lowest = highest = 0.0
