"""Refuses prompts that are clearly too long, before they wait for anybody."""

from arriero.base.errors import ContextLengthExceeded
from arriero.core.fleet import Alias
from arriero.core.overflow import (
    SAMPLE_BYTES_MIN,
    Limit,
    check,
    estimate,
    exceeded,
    is_suspect,
    param_of,
)
from arriero.core.roster import Roster
from arriero.wire.canonical import CanonicalRequest
from arriero.wire.dialect import Failure


def check_length(request: CanonicalRequest, alias: Alias, roster: Roster, body_bytes: int) -> None:
    """Refuse a prompt that is clearly too long. Raises ContextLengthExceeded."""
    if body_bytes < SAMPLE_BYTES_MIN:
        return
    limit = limit_of(alias)
    model = alias.branches[0].group.model
    if is_suspect(model, body_bytes, limit, roster.ratios):
        check(request, model, limit, roster.ratios)


def limit_of(alias: Alias) -> Limit:
    """Return what the alias takes, as far as it is known; hosts may cut where it says so."""
    settings = alias.settings
    context = 0
    if settings.overflow == "refuse":
        context = settings.context or alias.branches[0].group.context
    return Limit(context, settings.max_input_tokens or 0)


def too_long(
    failure: Failure, request: CanonicalRequest, alias: Alias, roster: Roster
) -> ContextLengthExceeded:
    """Return what tells the client that a host refused its prompt, with both figures.

    What the host did not tell is what is known of the model here: its context, and an estimate.
    """
    group = alias.branches[0].group
    available = failure.available or alias.settings.context or group.context
    needed = failure.needed or estimate(request, group.model, roster.ratios)
    if not available:
        return ContextLengthExceeded(failure.message, param=param_of(request))
    needed = max(needed, available + 1)  # the host knows better than the estimate
    return exceeded(needed, available, estimated=not failure.needed, param=param_of(request))
