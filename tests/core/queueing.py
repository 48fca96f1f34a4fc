"""Aliases, asks and tickets for the tests of the queue."""

from typing import Any

from arriero.config.settings import Backend, Model, Queueing, Route, Routing
from arriero.core.admission import Queue
from arriero.core.ask import Ask, Priority
from arriero.core.fleet import Alias, Fleet
from arriero.core.line import Ticket
from arriero.core.roster import Station
from arriero.wire.canonical import Completion, Sampling

REQUEST = Completion(model="m", prompt="p", sampling=Sampling())
INTERACTIVE, DEFAULT, EMBEDDING, BACKGROUND = Priority


def fleet_of(**aliases: str) -> Fleet:
    """Aliases of one model on hosts that are one letter each: `one="ab"`; `n` is another model."""
    hosts = sorted(set("".join(aliases.values())))
    return Fleet(
        [Backend(name=name, url=f"http://{name}:1", slots=1) for name in hosts],
        [
            Model(
                name=name,
                routes=tuple(
                    Route(backend=host, model="n:1" if name.startswith("n") else "m:1")
                    for host in where
                ),
            )
            for name, where in aliases.items()
        ],
        Routing(),
    )


def station(fleet: Fleet, host: str, model: str = "m:1") -> Station:
    return fleet.hosts[host].stations[model]


def ask(
    principal: str = "p", priority: Priority = DEFAULT, prompt_tokens: int = 10, output: int = 0
) -> Ask:
    return Ask(principal, priority, "", prompt_tokens, output, REQUEST)


def ticket(alias: Alias, principal: str = "p", *, cost: int = 10, **more: Any) -> Ticket:
    priority = more.pop("priority", DEFAULT)
    return Ticket(alias, ask(principal, priority, cost), None, **more)


def queue(**limits: Any) -> Queue:
    return Queue(Queueing(**limits))
