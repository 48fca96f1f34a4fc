"""Who competes with whom: components of the graph of aliases and stations."""

from hypothesis import given
from hypothesis import strategies as st

from arriero.core.cells import cells_of


def test_aliases_of_one_station_are_one_cell() -> None:
    first, second, third = cells_of([["s1"], ["s2"], ["s1", "s3"]])
    assert first == third != second


def test_a_chain_is_one_cell() -> None:
    assert len(set(cells_of([["a"], ["c"], ["a", "b"], ["b", "c"]]))) == 1


def test_without_stations_each_is_alone() -> None:
    assert len(set(cells_of([[], []]))) == 2
    assert cells_of([]) == []


@given(st.lists(st.lists(st.integers(0, 12), max_size=4), max_size=12))
def test_it_is_the_closure_of_sharing(used: list[list[int]]) -> None:
    cells = cells_of(used)
    groups = [{at} for at in range(len(used))]
    for _ in used:  # as often as there are, so that nothing can change any more: the naive way
        for group in groups:
            stations = {station for at in group for station in used[at]}
            group |= {at for at, other in enumerate(used) if stations & set(other)}
    for at, group in enumerate(groups):
        assert group == {other for other, cell in enumerate(cells) if cell == cells[at]}
