"""When a model is asked for one token, so that a wedged host is found before a user finds it.

Theory. Green `/api/*` pages prove nothing (ollama #18370); only a generation does. Users' own
answers prove it best, so a station that has answered one within the interval is left alone, and so
is one that is at work. What is not in memory is never asked: a probe must not load anything, nor
keep in memory what Ollama would unload. Every probe starts the model's keep-alive anew, so a model
that nobody uses is probed `IDLE_PROBES_MAX` times and then left to expire, unless it is kept for
ever anyway. It is probed again once it has been used.
"""

from typing import NamedTuple

IDLE_PROBES_MAX = 3  # since the last answer to a user


class Seen(NamedTuple):
    """What is known of one station; times are monotonic seconds."""

    loaded: bool
    running: int  # requests at work, probes among them
    answered_s: float  # when it last answered, a user or a probe
    probes: int  # since it last answered a user
    kept: bool  # in memory for ever


def is_due(seen: Seen, now_s: float, interval_s: float) -> bool:
    """Say whether a probe should be sent now; an interval of 0 means never."""
    if interval_s <= 0 or not seen.loaded or seen.running:
        return False
    if seen.probes >= IDLE_PROBES_MAX and not seen.kept:
        return False
    return now_s - seen.answered_s >= interval_s
