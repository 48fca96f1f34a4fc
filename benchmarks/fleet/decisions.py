"""How long a routing decision takes, from 2 to 1,000 hosts with 50 models, on the real code.

What is timed is `choose` with everything it needs: the mask of open hosts, the chain of hashes of a
prompt that was just decoded, the look-up of who holds how much of it, and the cheapest host. The
fleet is in the midst of its work: a third of the hosts has requests, models are loaded on a third
of them, the one asked for on two thirds, hosts differ in speed, and some conversations are known.
Processor time is measured, so that other work on the machine counts less.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

import msgspec

from arriero.config.settings import Backend, Model, Route, Routing, Strategy
from arriero.core.ask import Ask, Priority
from arriero.core.fleet import Fleet, take_lease
from arriero.core.learning import sent
from arriero.core.prefix import chain_of
from arriero.core.routing import open_mask
from arriero.core.strategies import choose
from arriero.wire.canonical import Chat, Message, Sampling
from arriero.wire.inventory import Listed, Loaded

SIZES: Final = (2, 10, 30, 100, 300, 1000)
MODELS: Final = 50
CONVERSATIONS: Final = 24
TIMES: Final = 1000
ROUNDS: Final = 7


@dataclass(frozen=True)
class Timing:
    """Microseconds of processor time: the median of rounds of many decisions each."""

    hosts: int
    adaptive: float
    least_busy: float
    chain: float  # the part of `adaptive` that depends on the prompt alone
    note: float  # what it costs to remember a request that is sent


def fleet_of(hosts: int, strategy: Strategy) -> Fleet:
    """Return a fleet in the midst of its work."""
    names = [f"host-{number}" for number in range(hosts)]
    models = [f"model-{number}:latest" for number in range(MODELS)]
    fleet = Fleet(
        [Backend(name=name, url=f"http://{name}", slots=4) for name in names],
        [
            Model(name=model, routes=tuple(Route(backend=name, model=model) for name in names))
            for model in models
        ],
        Routing(strategy=strategy),
    )
    chance = Random(hosts)
    for number, host in enumerate(fleet.hosts.values()):
        host.installed = {model: Listed() for model in models}
        loaded = [models[0], *models[number % 3 + 1 :: 3]] if number % 3 < 2 else models[3::3]
        host.resident = {model: Loaded(8192, 1, 1) for model in loaded}
        if chance.random() < 1 / 3:
            take_lease(fleet.aliases[chance.choice(models)].targets[number], fleet.next_turn(), 0.0)
    for target in fleet.aliases[models[0]].targets:
        speed = chance.choice((500, 1000, 2000, 4000))
        target.station.group.paces.measured(target.host.bit, speed, 1.0, speed // 40, 1.0)
    for number in range(CONVERSATIONS):
        target = chance.choice(fleet.aliases[models[0]].targets)
        sent(target.station, ask_for(conversation(number, turns=3)))
    return fleet


def conversation(number: int, turns: int) -> Chat:
    """Return a chat of 1,500 characters of system message and so many turns."""
    messages = [Message("system", f"You are assistant {number % 8}. " + "Be terse. " * 150)]
    for turn in range(turns):
        messages.append(Message("user", f"{number}/{turn} what is this? " * 10))
        messages.append(Message("assistant", f"{number}/{turn} it is that. " * 30))
    messages.append(Message("user", f"{number} and what is that? " * 10))
    return Chat(model="model-0:latest", messages=messages, text_only=True, sampling=Sampling())


def ask_for(chat: Chat) -> Ask:
    """Return the request to the scheduler."""
    return Ask("alice", Priority.INTERACTIVE, "", 1500, 256, chat)


def fresh_asks() -> list[Ask]:
    """Return requests just decoded: a string's hash is computed once, so it must be new."""
    decode = msgspec.json.Decoder(Chat).decode
    return [
        ask_for(decode(msgspec.json.encode(conversation(number % CONVERSATIONS, turns=4))))
        for number in range(TIMES)
    ]


def timed(act: Callable[[Ask], object]) -> float:
    """Return one call's microseconds of processor time: the median of several rounds' means."""
    rounds = []
    for _ in range(ROUNDS):
        asks = fresh_asks()
        began = time.process_time()
        for ask in asks:
            act(ask)
        rounds.append((time.process_time() - began) / TIMES * 1e6)
    return statistics.median(rounds)


def measure(hosts: int) -> Timing:
    """Time decisions in a fleet of that size."""
    fleet = fleet_of(hosts, "adaptive")
    other = fleet_of(hosts, "least-busy")
    station = fleet.aliases["model-0:latest"].targets[0].station

    def decide(fleet: Fleet) -> Callable[[Ask], object]:
        alias, roster = fleet.aliases["model-0:latest"], fleet.roster
        return lambda ask: choose(alias, open_mask(alias, roster, 0.0), roster, ask, fleet.turn)

    chain = timed(lambda ask: chain_of(ask.request))

    def remember(ask: Ask) -> None:
        ask.chain = chain_of(ask.request)
        sent(station, ask)

    timed(remember)

    return Timing(
        hosts,
        timed(decide(fleet)),
        timed(decide(other)),
        chain,
        timed(remember) - chain,
    )


def growth(timings: Sequence[Timing]) -> float:
    """Return the exponent of the growth of `adaptive` over the sizes; 1 is in proportion."""
    first, last = timings[0], timings[-1]
    return math.log(last.adaptive / first.adaptive) / math.log(last.hosts / first.hosts)


def table(timings: Sequence[Timing]) -> list[str]:
    """Return the figures as a table."""
    lines = [
        "| hosts | adaptive | of it: hashing the prompt | least-busy | remembering |",
        "|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {one.hosts:,} | {one.adaptive:.1f} µs | {one.chain:.1f} µs | {one.least_busy:.1f} µs "
        f"| {one.note:.1f} µs |"
        for one in timings
    ]
    return lines
