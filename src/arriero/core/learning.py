"""What is learnt of a host by asking it: which prompts it holds, and how fast it is.

Theory. From when a request is sent, its host is taken to hold the prompt. The answer tells how long
the prompt took to read, but not how much of it was read: Ollama counts cached tokens like others.
So a host's speed is learnt from prompts of which it was thought to hold next to nothing, and while
it had nothing else to do. A wrong guess could otherwise make a fast host look slow, and for long,
because one that looks slow is seldom asked again.

Only aliases that use the strategy `adaptive` come here.
"""

from typing import Final

import msgspec

from arriero.core.adaptive import chain_for
from arriero.core.ask import Ask
from arriero.core.roster import Station

_HELD_MAX: Final = 0.25  # of a prompt, when its time tells the speed of reading


class Sent(msgspec.Struct, frozen=True):
    """What was thought of a station when a request was sent there."""

    station: Station
    held: float  # the part of the prompt, 0 to 1, that was in its cache
    alone: bool


def sent(station: Station, ask: Ask) -> Sent:
    """Note that a request is sent to a station; its lease has been taken."""
    chain, host = chain_for(ask), station.host
    prefixes = station.group.prefixes
    held = prefixes.held(host.bit, chain)
    prefixes.note(host.bit, chain)
    if ask.session:
        prefixes.note_session(ask.session, host.bit)
    return Sent(station, held, host.in_flight == 1)


def answered(
    note: Sent, prompt_tokens: int, prompt_s: float, answer_tokens: int, answer_s: float
) -> None:
    """Learn from an answer: tokens, and the seconds they took; 0 where the backend did not say."""
    if note.alone:
        new = prompt_tokens * (1 - note.held) if note.held <= _HELD_MAX else 0.0
        station = note.station
        station.group.paces.measured(station.host.bit, new, prompt_s, answer_tokens, answer_s)
