"""Patience: whether requests wait for a host that has the model, or load it elsewhere."""

from arriero.core.group import PATIENCE
from arriero.core.residency import Residency
from arriero.core.roster import Group
from arriero.core.speed import LOAD_S

A, B, C = 1, 2, 4
ALL = A | B | C


def new_group(*, patient: bool = True, resident: int = A) -> Group:
    group = Group("m:1")
    for bit in (A, B, C):
        group.set_usable(bit, usable=True)
        group.set_free(bit, free=True)
        state = Residency.LOADED if resident & bit else Residency.INSTALLED
        group.set_residency(bit, state)
    group.set_patient(patient=patient)
    return group


def wait(group: Group, seconds: float, start_s: float = 0.0, able: int = ALL) -> None:
    """Let somebody wait for so long."""
    for quarter in range(int(seconds * 4) + 1):
        group.wanted(start_s + quarter / 4, able)


def test_the_impatient_may_load_anywhere() -> None:
    group = new_group(patient=False)
    assert group.open == ALL
    wait(group, 100.0)
    assert group.open == ALL


def test_the_patient_wait_for_a_host_that_has_the_model() -> None:
    group = new_group()
    assert group.open == A
    group.set_free(A, free=False)
    assert group.open == 0
    wait(group, PATIENCE * LOAD_S - 0.5)
    assert group.open == 0


def test_patience_ends_after_two_loads() -> None:
    group = new_group()
    group.set_free(A, free=False)
    wait(group, PATIENCE * LOAD_S)
    assert group.open == B | C


def test_one_load_is_begun_and_patience_begins_anew() -> None:
    group = new_group()
    group.set_free(A, free=False)
    wait(group, PATIENCE * LOAD_S)
    group.set_residency(B, Residency.LOADING)
    assert group.open == B
    group.set_residency(B, Residency.LOADED)
    assert group.open == B
    group.set_free(B, free=False)
    wait(group, 1.0, start_s=100.0)
    assert group.open == 0


def test_waits_with_breaks_do_not_add_up() -> None:
    group = new_group()
    group.set_free(A, free=False)
    for begin in range(10):
        wait(group, PATIENCE * LOAD_S / 2, start_s=begin * 100.0)
    assert group.open == 0


def test_a_model_that_is_nowhere_is_loaded_at_once() -> None:
    assert new_group(resident=0).open == ALL


def test_nobody_waits_for_a_host_that_is_down() -> None:
    group = new_group()
    wait(group, 0.0, able=B | C)
    assert group.open == ALL


def test_a_load_that_drives_out_nothing_needs_no_patience() -> None:
    group = new_group()
    group.set_empty(C, empty=True)
    assert group.open == A | C
    group.set_empty(C, empty=False)
    assert group.open == A


def test_patience_changes_with_the_configuration() -> None:
    group = new_group()
    group.set_patient(patient=False)
    assert group.open == ALL
    group.set_patient(patient=True)
    assert group.open == A
