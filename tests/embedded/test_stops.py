import itertools

from hypothesis import given
from hypothesis import strategies as st

from arriero.embedded.stops import StopScanner

TEXT = st.text("ab\n", max_size=20)
STOPS = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3)


def whole(text: str, stops: list[str]) -> tuple[str, bool]:
    """What the scanner must show in the end, from the definition."""
    for end in range(1, len(text) + 1):
        done = [stop for stop in stops if text[:end].endswith(stop)]
        if done:
            return text[: end - max(map(len, done))], True
    return text, False


@given(text=TEXT, stops=STOPS, data=st.data())
def test_splitting_the_text_anywhere_changes_nothing(
    text: str, stops: list[str], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    edges = [0, *cuts, len(text)]
    scanner = StopScanner(stops)
    shown = "".join(scanner.feed(text[left:right]) for left, right in itertools.pairwise(edges))
    assert (shown + scanner.flush(), scanner.found) == whole(text, stops)


@given(text=TEXT, stops=STOPS)
def test_nothing_shown_is_ever_taken_back(text: str, stops: list[str]) -> None:
    expected, _ = whole(text, stops)
    scanner, shown = StopScanner(stops), ""
    for character in text:
        shown += scanner.feed(character)
        assert expected.startswith(shown)


def test_text_that_cannot_begin_a_stop_is_not_held_back() -> None:
    scanner = StopScanner(["END"])
    assert scanner.feed("go on E") == "go on "
    assert scanner.feed("x") == "Ex"
    assert scanner.feed("EN") == ""
    assert scanner.feed("D and more") == ""
    assert scanner.found
    assert scanner.feed("anything") == ""
    assert scanner.flush() == ""
