"""`/_sim/*`: the simulation's own endpoints; Ollama has nothing of the kind."""

from typing import Any, Final

import msgspec

from arriero.testing.faults import Fault, FaultBook
from arriero.testing.http import Reply, Request
from arriero.testing.stats import Stats

PREFIX: Final = "/_sim/"


def faults(book: FaultBook, request: Request, reply: Reply) -> None:
    """GET lists the faults in force, POST adds one, DELETE takes all (or `?id=`) out."""
    if request.method == "POST":
        try:
            fault = msgspec.json.decode(request.body, type=Fault)
        except msgspec.DecodeError as error:
            reply.json(400, {"error": str(error)})
            return
        reply.json(200, {"id": book.add(fault)})
    elif request.method == "DELETE":
        _remove(book, request.query)
        reply.json(200, {})
    else:
        reply.json(200, {"faults": msgspec.to_builtins(book.all())})


def stats(counted: Stats, reply: Reply) -> None:
    """GET `/_sim/stats`."""
    reply.json(200, counted.as_dict())


def requests(seen: list[dict[str, Any]], reply: Reply) -> None:
    """GET `/_sim/requests`: the requests remembered, oldest first."""
    reply.json(200, {"requests": seen})


def _remove(book: FaultBook, query: str) -> None:
    name, _, value = query.partition("=")
    if name == "id" and value.isdecimal():
        book.remove(int(value))
    else:
        book.clear()
