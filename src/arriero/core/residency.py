r"""Whether a model is in a host's memory: loaded, installed and absent are different things.

Theory. One state for each station (a model on a host). ABSENT is not on the disk, INSTALLED is on
the disk only, LOADED is in memory. LOADING is a load that this gateway has begun and not heard the
end of. UNKNOWN is a host that has not been looked at, or is away: it may have anything.

Three sources tell: the inventory's looks (`/api/tags` and `/api/ps`, every few seconds), the
gateway's own loads, and answers to requests. A look is a few seconds old at worst and says nothing
of a load under way (Ollama lists a model only when its load is over, research A2), so LOADING ends
by what the load itself came to, and by nothing else.

    state \\ event  ABSENT  DISK       MEMORY   LOAD     DONE    FAILED     ANSWERED  GONE
    UNKNOWN        ABSENT  INSTALLED  LOADED   LOADING  LOADED  UNKNOWN    LOADED    UNKNOWN
    ABSENT         ABSENT  INSTALLED  LOADED   LOADING  LOADED  ABSENT     LOADED    UNKNOWN
    INSTALLED      ABSENT  INSTALLED  LOADED   LOADING  LOADED  INSTALLED  LOADED    UNKNOWN
    LOADING        ABSENT  LOADING    LOADING  LOADING  LOADED  INSTALLED  LOADING   LOADING
    LOADED         ABSENT  INSTALLED  LOADED   LOADING  LOADED  LOADED     LOADED    UNKNOWN

ABSENT, DISK and MEMORY are what a look found, or a 404 told (ABSENT). LOAD, DONE and FAILED are a
load's. GONE is a process that went away, or was another one when it came back: what it had in
memory is lost. A load under way at that time breaks by itself, and is left to tell so.
"""

from enum import IntEnum


class Residency(IntEnum):
    """Where a model is; the figure is what the metric `arriero_model_state` shows."""

    ABSENT = 0
    UNKNOWN = 1
    INSTALLED = 2
    LOADING = 3
    LOADED = 4


class Told(IntEnum):
    """What was learnt about a model on a host; the columns of the table."""

    ABSENT = 0
    DISK = 1
    MEMORY = 2
    LOAD = 3
    DONE = 4
    FAILED = 5
    ANSWERED = 6
    GONE = 7


LOADED = Residency.LOADED  # looked up on every request: as a member it would cost each time

_A, _U, _I, _G, _L = Residency
# A row of the table a state, in the order of `Told`.
_TABLE: dict[Residency, tuple[Residency, ...]] = {
    _U: (_A, _I, _L, _G, _L, _U, _L, _U),
    _A: (_A, _I, _L, _G, _L, _A, _L, _U),
    _I: (_A, _I, _L, _G, _L, _I, _L, _U),
    _G: (_A, _G, _G, _G, _L, _I, _G, _G),
    _L: (_A, _I, _L, _G, _L, _L, _L, _U),
}


def after(state: Residency, told: Told) -> Residency:
    """Return the state that follows. Total: every pair is in the table."""
    return _TABLE[state][told]


def restarted(was: set[str], now: set[str], version_was: str, version_now: str) -> bool:
    """Say whether two looks in a row saw two different processes.

    Ollama tells no start time. Another version is another process; so, in all likelihood, is one
    that had models in memory and has none of them now: expiry takes models one by one, a new
    process has none at all. When it was expiry after all, what follows is harmless: what was
    learnt about these models' caches is forgotten, and those to be kept are loaded.
    """
    if version_was and version_now and version_was != version_now:
        return True
    return bool(was) and not now
