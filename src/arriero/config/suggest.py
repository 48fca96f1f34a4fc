"""Did you mean: the nearest of the words that would have been right."""

import difflib
from collections.abc import Iterable

_SHOWN_MAX = 12


def hint(word: str, right: Iterable[str]) -> str:
    """Return "did you mean `x`?" when one is near, else what there is to choose from."""
    known = sorted(set(right))
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean `{near[0]}`?"
    more = ", ..." if len(known) > _SHOWN_MAX else ""
    return f"known here: {', '.join(known[:_SHOWN_MAX])}{more}" if known else "none is known here"
