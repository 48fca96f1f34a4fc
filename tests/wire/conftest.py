"""What the tests of formats share."""

import itertools
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def cut() -> Callable[[bytes, list[int]], list[bytes]]:
    """Cut bytes as a network might; `places` are any numbers, so that hypothesis can draw them."""

    def pieces(data: bytes, places: list[int]) -> list[bytes]:
        edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
        return [data[a:b] for a, b in itertools.pairwise(edges)]

    return pieces
