"""Does a model go on with a message it has begun? What was found out, by weights and server.

A conversation may end with words of the assistant. Some templates leave that message open, so that
the model goes on with it; others close it and begin a new one, and the answer would start afresh
(Ollama: by model and version; its own renderers differ). It is found out by having the server
render such a conversation and generate nothing, so a verdict is about a template: it holds for all
hosts that have the same weights under the same version of the server.
"""

from enum import IntEnum
from typing import NamedTuple

import msgspec

from arriero.core.roster import Host

VERDICTS_MAX = 4096


class Ending(IntEnum):
    """What becomes of the assistant's last words in the prompt."""

    CLOSED = 0  # the message is ended: it cannot be continued
    TRIMMED = 1  # open, but without the white space at its end
    KEPT = 2  # open, to the last character


class Prefill(msgspec.Struct, frozen=True):
    """What one template does, with and without tools, and behind thoughts of the model.

    `thinking` is CLOSED as well when the thoughts are left out of the prompt: the model would not
    know any more what it thought.
    """

    plain: Ending = Ending.CLOSED
    tools: Ending = Ending.CLOSED
    thinking: Ending = Ending.CLOSED


class Template(NamedTuple):
    """What a verdict is about; the version is that of the server that renders."""

    digest: str
    version: str


def template_of(host: Host, model: str) -> Template | None:
    """Return what a verdict about a host's model would be about; None when it is not known yet.

    A server of OpenAI's API tells neither weights nor version, so there it is about that server.
    """
    if host.kind == "openai":
        return Template(f"{host.name}/{model}", "")
    listed = (host.installed or {}).get(model)
    if listed is None or not listed.digest or not host.version:
        return None
    return Template(listed.digest, host.version)


class Verdicts:
    """All that was found out, bounded; kept for the life of the process."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[Template, Prefill] = {}

    def get(self, template: Template) -> Prefill | None:
        """Return the verdict, None when it is not known."""
        return self._known.get(template)

    def put(self, template: Template, prefill: Prefill) -> None:
        """Note a verdict; the oldest is forgotten when there are too many."""
        if template not in self._known and len(self._known) >= VERDICTS_MAX:
            del self._known[next(iter(self._known))]
        self._known[template] = prefill
