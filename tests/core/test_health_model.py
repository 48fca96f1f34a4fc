"""The breaker against a model that keeps all that happened, and reads its state from that."""

from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
)

from arriero.core.health import Breaker, Cause, State

PROBE_FIRST_S = 1.0
GONE = (Cause.LOST, Cause.REFUSED)
LIMITS = {"failures_max": 3, "ejection_s": 4.0, "ejection_max_s": 50.0}
NEVER = float("inf")


class Out(NamedTuple):
    """A request that was sent, and whether its end is to decide."""

    number: int
    probe: bool


class History:
    """What happened, in words. All that is asked is found by reading it from its end."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.until_s = NEVER  # of the last ejection
        self.cause = Cause.STATUS  # of the last ejection
        self.limits = LIMITS

    def since(self, what: str, *ends: str) -> int:
        """Count what happened since the last of the `ends`."""
        count = 0
        for one in reversed(self.happened):
            if one in ends:
                return count
            count += one == what
        return count

    @property
    def state(self) -> State:
        moves = {
            "left out": State.EJECTED,
            "probe sent": State.PROBING,
            "probe lost": State.EJECTED,
            "let in": State.AVAILABLE,
        }
        found = (moves[one] for one in reversed(self.happened) if one in moves)
        return next(found, State.AVAILABLE)

    def may(self, now_s: float, *, own: bool) -> bool:
        if self.state is State.AVAILABLE:
            return not own  # there is nothing for us to find out
        patience_s = PROBE_FIRST_S if self.cause is Cause.SILENT and not own else 0.0
        return self.state is State.EJECTED and now_s >= self.until_s + patience_s

    def succeed(self, *, probe: bool) -> None:
        if self.state is State.AVAILABLE:
            self.happened.append("answered")
        elif probe:
            self.happened.append("let in")

    def fail(self, now_s: float, cause: Cause, *, probe: bool) -> bool:
        was_in = self.state is State.AVAILABLE
        self.happened.append("failed")
        # Failures of requests from before an ejection, that end after it, are in a row with none.
        in_a_row = self.since("failed", "answered", "let in")
        if was_in and cause is Cause.STATUS and in_a_row < self.limits["failures_max"]:
            return False
        if not was_in and not probe:
            return False
        doublings = self.since("left out", "answered")
        longest_s = self.limits["ejection_max_s"]
        self.until_s = now_s + min(self.limits["ejection_s"] * 2**doublings, longest_s)
        self.cause = cause
        self.happened.append("left out")
        return True

    def reach(self, now_s: float) -> None:
        if self.state is State.EJECTED and self.cause in GONE:
            self.until_s = min(self.until_s, now_s)

    def go(self) -> None:
        if self.state is State.EJECTED:
            self.cause = Cause.REFUSED


class BreakerMachine(RuleBasedStateMachine):
    """Requests go out and end in any order, while the host's pages are looked at."""

    requests: Bundle[Out] = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.told: list[State] = []
        self.breaker = Breaker(
            failures_max=3,
            ejection_s=4.0,
            ejection_max_s=50.0,
            on_change=lambda breaker: self.told.append(breaker.state),
        )
        self.breaker.probe_first_s = PROBE_FIRST_S
        self.history = History()
        self.now_s = 0.0
        self.sent = 0
        self.probing: Out | None = None

    @rule(target=requests, own=st.booleans())
    def send(self, *, own: bool) -> Out:
        """Send a request; as a last resort also to one that is left out, without deciding."""
        due = self.history.state is State.EJECTED and self.history.may(self.now_s, own=own)
        probe = self.breaker.on_try(self.now_s, own=own)
        assert probe is due
        self.sent += 1
        out = Out(self.sent, probe)
        if probe:
            assert self.probing is None, "one at a time"
            self.history.happened.append("probe sent")
            self.probing = out
        return out

    @rule(one=consumes(requests))
    def answer(self, one: Out) -> None:
        self.breaker.on_success(probe=one.probe)
        self.history.succeed(probe=one.probe)
        self.over(one)

    @rule(one=consumes(requests), cause=st.sampled_from(Cause))
    def fail(self, one: Out, cause: Cause) -> None:
        left_out = self.history.fail(self.now_s, cause, probe=one.probe)
        assert self.breaker.on_failure(self.now_s, probe=one.probe, cause=cause) is left_out
        self.over(one)

    @rule(one=consumes(requests))
    def leave(self, one: Out) -> None:
        """The client is gone, and nothing is known."""
        self.breaker.on_abandoned(self.now_s, probe=one.probe)
        if one.probe:
            self.history.happened.append("probe lost")
            self.history.until_s = self.now_s
        self.over(one)

    def over(self, one: Out) -> None:
        if one == self.probing:
            self.probing = None

    @rule(cause=st.sampled_from([Cause.STATUS, Cause.REFUSED]))
    def pages_fail(self, cause: Cause) -> None:
        left_out = self.history.fail(self.now_s, cause, probe=False)
        assert self.breaker.on_failure(self.now_s, probe=False, cause=cause) is left_out

    @rule()
    def pages_are_green(self) -> None:
        before = (self.breaker.state, self.breaker.until_s, self.breaker.cause)
        self.breaker.on_reachable(self.now_s)
        self.history.reach(self.now_s)
        if before[2] not in GONE:
            assert (self.breaker.state, self.breaker.until_s, self.breaker.cause) == before

    @rule()
    def process_goes(self) -> None:
        self.breaker.on_gone()
        self.history.go()

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 4.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @precondition(lambda self: self.history.state is State.EJECTED)
    @rule(before=st.booleans())
    def wait_until_it_is_due(self, *, before: bool) -> None:
        self.now_s = max(self.now_s, self.history.until_s - (0.25 if before else 0.0))

    @rule(failures_max=st.integers(1, 4), ejection_s=st.sampled_from([1.0, 4.0, 80.0]))
    def reload(self, failures_max: int, ejection_s: float) -> None:
        limits = {"failures_max": failures_max, "ejection_s": ejection_s, "ejection_max_s": 50.0}
        self.history.limits = limits
        self.breaker.set_limits(
            failures_max=failures_max, ejection_s=ejection_s, ejection_max_s=50.0
        )

    @invariant()
    def both_agree(self) -> None:
        breaker, history = self.breaker, self.history
        assert breaker.state is history.state
        assert breaker.may_try(self.now_s) is history.may(self.now_s, own=False)
        assert breaker.may_probe(self.now_s) is history.may(self.now_s, own=True)
        if breaker.state is State.EJECTED:
            assert (breaker.until_s, breaker.cause) == (history.until_s, history.cause)

    @invariant()
    def nobody_is_left_out_for_long(self) -> None:
        if self.breaker.state is State.EJECTED:
            assert self.breaker.until_s <= self.now_s + 50.0

    @invariant()
    def one_decides_or_none(self) -> None:
        assert (self.breaker.state is State.PROBING) is (self.probing is not None)

    @invariant()
    def every_change_was_told(self) -> None:
        assert (self.told or [State.AVAILABLE])[-1] is self.breaker.state


BreakerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestBreaker = BreakerMachine.TestCase
