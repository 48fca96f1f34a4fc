"""What is learnt of a host by asking it: which prompts it holds, and how fast it is.

Theory. From when a request is sent, its host is taken to hold the prompt. What it really held of it
before, llama.cpp tells with each answer and vLLM when it is told to (`cached_tokens`). Where that
is much less than was thought, the host has let go of it, and of all that was used no later.

The answer also tells how long the prompt took to read, but Ollama does not say how much of it was
read: it counts cached tokens like others. So there a host's speed is learnt from prompts of which
it was thought to hold next to nothing, and always while it had nothing else to do. A wrong guess
could otherwise make a fast host look slow, and for long, because one that looks slow is seldom
asked again.

Only aliases that use the strategy `adaptive` come here.
"""

from typing import Final

import msgspec

from arriero.core.adaptive import chain_for, session_for
from arriero.core.ask import Ask
from arriero.core.roster import Station
from arriero.wire.canonical import Usage

_HELD_MAX: Final = 0.25  # of a prompt, when its time tells the speed of reading
# A guess is wrong when less than half of it was there, of at least so many tokens: characters are
# not tokens, templates add some, and vLLM keeps whole blocks of 16.
_WRONG: Final = 0.5
_GUESS_TOKENS_MIN: Final = 64


class Sent(msgspec.Struct, frozen=True):
    """What was thought of a station when a request was sent there."""

    station: Station
    held: float  # the part of the prompt, 0 to 1, that was in its cache
    used: int  # when that part was used before, as the index counts
    alone: bool


def sent(station: Station, ask: Ask) -> Sent:
    """Note that a request is sent to a station; its lease has been taken."""
    host = station.host
    roster = host.roster
    chain, session = chain_for(ask, roster), session_for(ask, roster)
    prefixes = station.group.prefixes
    held, used = prefixes.last_use(host.bit, chain)
    prefixes.note(host.bit, chain)
    if session:
        prefixes.note_session(session, host.bit)
    if roster.hints is not None:
        roster.hints.note(station, chain.sent, session)
    return Sent(station, held, used, host.in_flight == 1)


def answered(note: Sent, usage: Usage) -> None:
    """Learn from a complete answer: its tokens, and the seconds they took."""
    if not note.alone:  # its time was shared, and so was the cache
        return
    bit, group = note.station.host.bit, note.station.group
    new = float(usage.prompt_tokens - usage.cached_tokens)
    if not usage.cached_told:
        new = usage.prompt_tokens * (1 - note.held) if note.held <= _HELD_MAX else 0.0
    elif _is_wrong(note.held * usage.prompt_tokens, usage.cached_tokens):
        group.prefixes.forget_until(bit, note.used)
    group.paces.measured(bit, new, usage.prompt_s, usage.completion_tokens, usage.completion_s)


def _is_wrong(guess: float, cached_tokens: int) -> bool:
    return guess >= _GUESS_TOKENS_MIN and cached_tokens < guess * _WRONG
