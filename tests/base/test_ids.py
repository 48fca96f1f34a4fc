"""Ids: their form, and that none comes twice."""

import re

from hypothesis import given
from hypothesis import strategies as st

from arriero.base.ids import IdSource


@given(st.integers(0, 2**70))
def test_ids_are_hex_of_the_boot_and_a_count(boot_bits: int) -> None:
    source = IdSource(boot_bits)
    first, second = source.next_id(), source.next_id()
    assert re.fullmatch(r"[0-9a-f]{16}00000001", first)
    assert second == first[:16] + "00000002"
    assert int(first[:16], 16) == boot_bits % 2**64


def test_no_id_comes_twice() -> None:
    one, other = IdSource(1), IdSource(2)
    ids = [source.next_id() for _ in range(5000) for source in (one, other)]
    assert len(set(ids)) == len(ids)
