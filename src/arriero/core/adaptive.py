"""The strategy `adaptive`: the host where a request's first token is nearest, after LMetric.

Theory. LMetric (arXiv 2603.15202) multiplies the prompt tokens that a host would still have to read
with the requests it has, plus this one, and needs no constants to weigh one against the other: a
host with the conversation in its cache wins as long as it is not much busier than the others. Here
the tokens become seconds, because hosts of a small fleet differ, and a model that is not loaded
costs its load as well:

    cost = (new prompt tokens / prefill speed + load) x (requests in flight + 1)
           + answer tokens / decode speed

Not every host is looked at. Of all hosts that hold the same part of the prompt, have or have not
the model loaded, and are about as fast, only the least busy can win, and bitmasks find those
without looking at the others. What a decision costs therefore hardly depends on the fleet's size.
"""

from arriero.core.ask import Ask
from arriero.core.fleet import Alias, Target
from arriero.core.prefix import Chain, chain_of
from arriero.core.roster import Group, Roster, Station
from arriero.core.routing import longest_unused, target_on


def adaptive(alias: Alias, mask: int, roster: Roster, ask: Ask, turn: int) -> Target:
    """Choose the cheapest host.

    Ties go to the host that had the conversation before, if its client gave it a name: a prompt
    that was changed near its beginning has nothing in any cache that the index can see, but may
    have a little in that one. Else they go to the host used longest ago.
    """
    best, least = 0, float("inf")
    for branch in alias.branches:  # nearly always one
        hosts = branch.hosts & mask
        if hosts:
            tied, cost = cheapest(branch.group, hosts, roster, ask)
            if ask.session:
                session = session_for(ask, roster)
                tied = tied & branch.group.prefixes.host_of(session) or tied
            if cost < least:
                best, least = tied, cost
    if best & (best - 1):
        best = longest_unused(best, roster, turn)
    return target_on(alias, best)


def cheapest(group: Group, hosts: int, roster: Roster, ask: Ask) -> tuple[int, float]:
    """Return the hosts at which the request costs least, as a mask, and what it costs there."""
    resident, load_s, levels = group.resident, group.paces.load_s, roster.levels
    paces = [
        (pace.hosts, pace.prompt_s, pace.answer_s * ask.output_tokens)
        for pace in group.paces.all(hosts)
    ]
    best, least = 0, float("inf")
    for holders, tokens in parts(group, hosts, roster, ask):
        for alike, prompt_s, write_s in paces:
            read_s = tokens * prompt_s
            if read_s + write_s > least:
                continue  # even if idle
            some = holders & alike
            loaded = some & resident
            for mask, start_s in ((loaded, read_s), (some ^ loaded, read_s + load_s)):
                if mask and start_s + write_s <= least:
                    busy, tied = _least_busy(mask, levels)
                    cost = start_s * busy + write_s
                    if cost < least:
                        best, least = tied, cost
                    elif cost == least:
                        best |= tied
    return best, least


def _least_busy(hosts: int, levels: list[int]) -> tuple[int, int]:
    """Return the fewest requests on any of the hosts, with this one, and who has so few."""
    for busy, level in enumerate(levels, 1):
        tied = hosts & level
        if tied:
            return busy, tied
    raise AssertionError("every host stands on a level")


def parts(group: Group, hosts: int, roster: Roster, ask: Ask) -> list[tuple[int, float]]:
    """Return disjoint masks of hosts with the tokens they would have to read, fewest first."""
    chain = ask.chain
    if chain is None:
        chain = chain_for(ask, roster)
    found: list[tuple[int, float]] = []
    length, tokens = chain.length, ask.prompt_tokens
    for holders, chars in group.prefixes.holders(hosts, chain):
        # At least the last token of a prompt is always computed.
        found.append((holders, max((length - chars) * tokens / length, 1.0)))
        hosts ^= holders
    if hosts:
        found.append((hosts, float(tokens)))
    return found


def chain_for(ask: Ask, roster: Roster) -> Chain:
    """Return the request's chain, made when it is first wanted."""
    chain = ask.chain
    if chain is None:
        hints = roster.hints
        chain = ask.chain = chain_of(ask.request, hash if hints is None else hints.hashed)
    return chain


def session_for(ask: Ask, roster: Roster) -> str:
    """Return what the request's conversation is remembered by, "" if it has no name."""
    if roster.hints is None or not ask.session:
        return ask.session
    return roster.hints.session(ask.session)


def unread(station: Station, ask: Ask) -> float:
    """Return how many tokens of a prompt a station would have to read."""
    chain, host = chain_for(ask, station.host.roster), station.host
    return ask.prompt_tokens * (1 - station.group.prefixes.held(host.bit, chain))
