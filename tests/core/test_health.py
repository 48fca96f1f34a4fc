"""The breaker: the table of its docstring case by case, and the traps beside it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.core import health
from arriero.core.health import Breaker, Cause, State

A, P, E = State.AVAILABLE, State.PROBING, State.EJECTED
NOW_S = 1000.0


def new(failures_max: int = 3, ejection_s: float = 5.0, ejection_max_s: float = 120.0) -> Breaker:
    return Breaker(failures_max=failures_max, ejection_s=ejection_s, ejection_max_s=ejection_max_s)


def in_state(state: State, cause: Cause = Cause.SILENT) -> Breaker:
    """Bring a breaker there by its own events; an ejection lasts from NOW_S on for 5 s."""
    breaker = new()
    if state is not A:
        start_s = NOW_S if state is E else NOW_S - 5.0
        assert breaker.on_failure(start_s, probe=False, cause=cause)
    if state is P:
        assert breaker.on_try(NOW_S)
    assert breaker.state is state
    return breaker


def happen(breaker: Breaker, event: str, *, probe: bool) -> bool:
    """Let one column of the table happen; return what the breaker said, False for nothing."""
    if event == "FAILURE":
        return breaker.on_failure(NOW_S, probe=probe, cause=Cause.SILENT)
    if event == "PROBE":
        return breaker.on_try(NOW_S + 5.0)
    if event == "SUCCESS":
        breaker.on_success(probe=probe)
    else:
        breaker.on_abandoned(NOW_S, probe=probe)
    return False


# Which request the event belongs to: in PROBING, the table means the probe.
TABLE = {
    (A, "SUCCESS"): A,
    (A, "FAILURE"): E,  # SILENT; the patience with STATUS is tested below
    (A, "PROBE"): A,  # cannot happen: there is nothing to probe, the request is an ordinary one
    (A, "ABANDONED"): A,
    (E, "SUCCESS"): E,
    (E, "FAILURE"): E,
    (E, "PROBE"): P,
    (E, "ABANDONED"): E,
    (P, "SUCCESS"): A,
    (P, "FAILURE"): E,
    (P, "PROBE"): P,  # cannot happen: one probe is out already
    (P, "ABANDONED"): E,
}


def test_the_table_is_total() -> None:
    events = {"SUCCESS", "FAILURE", "PROBE", "ABANDONED"}
    assert TABLE.keys() == {(state, event) for state in State for event in events}


def test_the_table_is_that_of_the_docstring() -> None:
    rows = re.findall(
        r"^ +(AVAILABLE|EJECTED|PROBING) +(\S+) +(\S+) +(\S+) +(\w+)",
        health.__doc__ or "",
        re.MULTILINE,
    )
    written = {
        (State[state], event): cell
        for state, *cells in rows
        for event, cell in zip(("SUCCESS", "FAILURE", "PROBE", "ABANDONED"), cells, strict=True)
    }
    assert written.keys() == TABLE.keys()
    for key, cell in written.items():
        allowed = {State[name] for name in cell.split("|")} if cell != "--" else {key[0]}
        assert TABLE[key] in allowed, key


@pytest.mark.parametrize(("state", "event"), TABLE)
def test_each_cell(state: State, event: str) -> None:
    breaker = in_state(state)
    happen(breaker, event, probe=state is P)
    assert breaker.state is TABLE[state, event]


@pytest.mark.parametrize("event", ["SUCCESS", "FAILURE", "ABANDONED"])
@pytest.mark.parametrize("state", [E, P])
def test_late_ends_of_ordinary_requests_change_no_ejection(state: State, event: str) -> None:
    breaker = in_state(state)
    before = (breaker.state, breaker.until_s, breaker.ejections, breaker.cause)
    assert not happen(breaker, event, probe=False)
    assert (breaker.state, breaker.until_s, breaker.ejections, breaker.cause) == before


@pytest.mark.parametrize("event", ["SUCCESS", "FAILURE", "ABANDONED"])
def test_a_probe_that_was_overtaken_changes_no_ejection(event: str) -> None:
    # A probe's lease can only end in PROBING; a second report of it would be a defect elsewhere,
    # and must not help a host back in.
    breaker = in_state(E)
    assert not happen(breaker, event, probe=True)
    assert (breaker.state, breaker.until_s) == (E, NOW_S + 5.0)


@pytest.mark.parametrize("failures_max", [1, 2, 3])
def test_statuses_eject_after_failures_in_a_row(failures_max: int) -> None:
    breaker = new(failures_max)
    ejected = [
        breaker.on_failure(NOW_S, probe=False, cause=Cause.STATUS) for _ in range(failures_max)
    ]
    assert ejected == [False] * (failures_max - 1) + [True]
    assert (breaker.state, breaker.cause) == (E, Cause.STATUS)


def test_a_success_between_statuses_starts_the_count_anew() -> None:
    breaker = new(failures_max=2)
    for _ in range(5):
        assert not breaker.on_failure(NOW_S, probe=False, cause=Cause.STATUS)
        breaker.on_success(probe=False)
    assert (breaker.state, breaker.failures) == (A, 0)


@pytest.mark.parametrize("cause", set(Cause) - {Cause.STATUS})
def test_a_transport_failure_ejects_at_once(cause: Cause) -> None:
    breaker = new(failures_max=99)
    assert breaker.on_failure(NOW_S, probe=False, cause=cause)
    assert (breaker.state, breaker.cause) == (E, cause)


def test_recovery_gives_the_full_patience_back() -> None:
    breaker = new(failures_max=2)
    for _ in range(2):
        breaker.on_failure(NOW_S, probe=False, cause=Cause.STATUS)
    assert breaker.on_try(NOW_S + 5.0)
    breaker.on_success(probe=True)
    assert not breaker.on_failure(NOW_S + 6.0, probe=False, cause=Cause.STATUS)
    assert breaker.state is A


def test_an_ejection_ends_at_its_time_and_not_before() -> None:
    breaker = in_state(E)
    for now_s, may in ((NOW_S, False), (NOW_S + 4.999, False), (NOW_S + 5.0, True)):
        assert breaker.may_try(now_s) is may
    assert not breaker.on_try(NOW_S + 4.999)
    assert breaker.state is E


def test_asking_changes_nothing() -> None:
    breaker = in_state(E)
    for _ in range(3):
        assert breaker.may_try(NOW_S + 5.0)
    assert breaker.state is E


def test_there_is_one_probe_at_a_time() -> None:
    breaker = in_state(P)
    assert not breaker.may_try(NOW_S + 9999.0)
    assert not breaker.on_try(NOW_S + 9999.0)


def test_an_abandoned_probe_leaves_its_place_at_once() -> None:
    breaker = in_state(P)
    breaker.on_abandoned(NOW_S + 1.0, probe=True)
    assert not breaker.may_try(NOW_S + 0.5)
    assert breaker.on_try(NOW_S + 1.0)
    assert breaker.ejections == 1


def failing_probes(breaker: Breaker, count: int) -> list[float]:
    """Fail the breaker and then each of its probes; return how long the ejections lasted."""
    lengths_s = []
    now_s, probe = 0.0, False
    for _ in range(count):
        assert breaker.on_failure(now_s, probe=probe, cause=Cause.REFUSED)
        lengths_s.append(breaker.until_s - now_s)
        now_s = breaker.until_s
        probe = breaker.on_try(now_s)
        assert probe
    return lengths_s


def test_ejections_double_up_to_the_cap() -> None:
    assert failing_probes(new(), 7) == [5.0, 10.0, 20.0, 40.0, 80.0, 120.0, 120.0]


def test_a_host_that_is_down_for_years_overflows_nothing() -> None:
    assert failing_probes(new(), 2000)[-1] == pytest.approx(120.0)


def test_a_flapping_host_waits_longer_each_time() -> None:
    breaker = in_state(P)
    breaker.on_success(probe=True)
    assert breaker.on_failure(NOW_S, probe=False, cause=Cause.SILENT)
    assert breaker.until_s == NOW_S + 10.0


def test_a_second_success_ends_the_backoff() -> None:
    breaker = in_state(P)
    breaker.on_success(probe=True)
    breaker.on_success(probe=False)
    assert breaker.on_failure(NOW_S, probe=False, cause=Cause.SILENT)
    assert breaker.until_s == NOW_S + 5.0


@pytest.mark.parametrize(
    ("cause", "due"),
    [(Cause.REFUSED, True), (Cause.LOST, True), (Cause.SILENT, False), (Cause.STATUS, False)],
)
def test_reachable_again_helps_only_a_process_that_was_gone(cause: Cause, *, due: bool) -> None:
    breaker = new(failures_max=1)
    breaker.on_failure(NOW_S, probe=False, cause=cause)
    breaker.on_reachable(NOW_S + 1.0)
    assert breaker.may_try(NOW_S + 1.0) is due
    assert breaker.state is E


def test_reachable_never_makes_an_ejection_longer() -> None:
    breaker = in_state(E, Cause.REFUSED)
    breaker.on_reachable(NOW_S + 60.0)
    assert breaker.until_s == NOW_S + 5.0


@pytest.mark.parametrize("state", [A, P])
def test_reachable_says_nothing_about_others(state: State) -> None:
    breaker = in_state(state, Cause.REFUSED)
    breaker.on_reachable(NOW_S + 1.0)
    assert breaker.state is state


def test_new_limits_count_from_the_next_failure_on() -> None:
    breaker = in_state(E)
    breaker.set_limits(failures_max=1, ejection_s=1.0, ejection_max_s=1.5)
    assert breaker.until_s == NOW_S + 5.0
    assert breaker.on_try(NOW_S + 5.0)
    breaker.on_failure(NOW_S + 5.0, probe=True, cause=Cause.STATUS)
    assert breaker.until_s == NOW_S + 6.5


EVENTS = st.tuples(
    st.sampled_from(["try", "success", "failure", "abandoned", "reachable"]),
    st.booleans(),  # probe
    st.sampled_from(Cause),
    st.floats(0, 30),  # seconds since the event before
)


@given(st.lists(EVENTS, max_size=40))
def test_no_history_leaves_a_host_out_for_good(
    events: list[tuple[str, bool, Cause, float]],
) -> None:
    breaker, now_s = new(), 0.0
    for event, probe, cause, passed_s in events:
        now_s += passed_s
        if event == "try":
            breaker.on_try(now_s)
        elif event == "success":
            breaker.on_success(probe=probe)
        elif event == "failure":
            assert breaker.on_failure(now_s, probe=probe, cause=cause) <= (breaker.state is E)
        elif event == "abandoned":
            breaker.on_abandoned(now_s, probe=probe)
        else:
            breaker.on_reachable(now_s)
    if breaker.state is P:
        breaker.on_abandoned(now_s, probe=True)
    assert breaker.may_try(now_s + 120.0)


# -- our own probes, and processes that went away


def test_our_own_probe_may_ask_a_silent_one_before_users_may() -> None:
    breaker = in_state(E)
    breaker.probe_first_s = 1.0
    assert breaker.may_probe(NOW_S + 5.0)
    assert not breaker.may_try(NOW_S + 5.999)
    assert not breaker.on_try(NOW_S + 5.0)
    assert breaker.on_try(NOW_S + 5.0, own=True)
    assert breaker.state is P


@pytest.mark.parametrize("cause", set(Cause) - {Cause.SILENT})
def test_for_others_a_user_need_not_wait(cause: Cause) -> None:
    breaker = new(failures_max=1)
    breaker.probe_first_s = 1.0
    breaker.on_failure(NOW_S, probe=False, cause=cause)
    assert breaker.may_try(NOW_S + 5.0)


@pytest.mark.parametrize("cause", Cause)
def test_a_process_that_is_gone_is_not_wedged(cause: Cause) -> None:
    breaker = new(failures_max=1)
    breaker.on_failure(NOW_S, probe=False, cause=cause)
    breaker.on_gone()
    breaker.on_reachable(NOW_S + 1.0)
    assert breaker.may_try(NOW_S + 1.0)


def test_going_says_nothing_about_who_is_well() -> None:
    breaker = in_state(A)
    breaker.on_gone()
    assert breaker.state is A


def test_who_is_told_of_a_change_sees_when_it_ends() -> None:
    seen = []
    breaker = Breaker(
        failures_max=1,
        ejection_s=5.0,
        ejection_max_s=9.0,
        on_change=lambda each: seen.append((each.state, each.may_try(NOW_S))),
    )
    breaker.on_failure(NOW_S, probe=False, cause=Cause.LOST)
    assert breaker.on_try(NOW_S + 5.0)
    breaker.on_abandoned(NOW_S + 6.0, probe=True)
    assert seen == [(E, False), (P, False), (E, False)]
