"""Every strategy by its name: the one place to ask for a host."""

from typing import Final

from arriero.core.adaptive import adaptive
from arriero.core.ask import Ask
from arriero.core.fleet import Alias, Target
from arriero.core.roster import Roster
from arriero.core.routing import STRATEGIES, target_on

ADAPTIVE: Final = "adaptive"


def choose(alias: Alias, mask: int, roster: Roster, ask: Ask | None, turn: int) -> Target:
    """Return one of the alias's targets on the hosts of `mask`, which is not empty.

    `ask` is for the strategy that looks at it.
    """
    if not mask & (mask - 1):
        return target_on(alias, mask)
    if alias.strategy == ADAPTIVE:
        assert ask is not None
        return adaptive(alias, mask, roster, ask, turn)
    return STRATEGIES[alias.strategy](alias, mask, roster, turn)
