"""What is told twice is swallowed, wherever it is split; a stop string holds across the seam."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.core.seam import Diverged, OpenStops, Seam, Suppressor
from arriero.wire.canonical import Chunk, ToolCall, Usage

TEXT = st.text(alphabet="ab \n", max_size=12)
CUTS = st.lists(st.integers(0, 24), max_size=6)


def split(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    return [text[a:b] for a, b in itertools.pairwise(places)]


def seam(repeat: str = "", *, strict: bool = True, sent: str = "", stop: str = "") -> Seam:
    stops = [stop] if stop else []
    return Seam(Suppressor(repeat, strict=strict), OpenStops(sent, stops), kept=7)


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.content for chunk in chunks)


def swallow(suppressor: Suppressor, pieces: list[str], out: list[str]) -> None:
    out.extend(suppressor.feed(piece) for piece in pieces)
    suppressor.end()


@given(TEXT, TEXT, CUTS)
def test_what_was_sent_is_swallowed_wherever_it_is_split(
    repeat: str, rest: str, cuts: list[int]
) -> None:
    suppressor = Suppressor(repeat, strict=True)
    assert "".join(suppressor.feed(piece) for piece in split(repeat + rest, cuts)) == rest
    suppressor.end()
    assert suppressor.done


@given(TEXT, TEXT, CUTS)
def test_other_words_are_never_let_through(repeat: str, other: str, cuts: list[int]) -> None:
    if other.startswith(repeat):
        return
    suppressor = Suppressor(repeat, strict=True)
    out: list[str] = []
    with pytest.raises(Diverged):
        swallow(suppressor, split(other, cuts), out)
    assert "".join(out) == ""


@given(TEXT, TEXT, CUTS)
def test_a_lenient_one_loses_nothing_but_what_is_told_twice(
    repeat: str, text: str, cuts: list[int]
) -> None:
    suppressor = Suppressor(repeat, strict=False)
    out = "".join(suppressor.feed(piece) for piece in split(text, cuts))
    suppressor.end()
    assert text.endswith(out)
    assert repeat.startswith(text[: len(text) - len(out)])
    assert (
        not out
        or not repeat
        or len(text) - len(out) == len(repeat)
        or out[0] != repeat[len(text) - len(out)]
    )


def shown(sent: str, stop: str, pieces: list[str]) -> tuple[str, bool]:
    stops = OpenStops(sent, [stop])
    out = "".join(stops.feed(piece) for piece in pieces)
    return out + ("" if stops.found else stops.end()), stops.found


@given(
    st.text("ab", max_size=4),
    st.text("ab", min_size=1, max_size=4),
    st.text("ab", max_size=6),
    CUTS,
)
def test_a_stop_string_ends_a_text_exactly_when_it_spans_the_seam(
    sent: str, stop: str, rest: str, cuts: list[int]
) -> None:
    spans = any(
        (sent + rest).startswith(stop, at) and at + len(stop) > len(sent)
        for at in range(max(len(sent) - len(stop) + 1, 0), len(sent))
    )
    assert shown(sent, stop, split(rest, cuts)) == (("", True) if spans else (rest, False))


def test_what_may_become_a_stop_string_is_held_back() -> None:
    stops = OpenStops("... EN", ["END"])
    assert stops.feed("") == ""
    assert stops.feed("D!") == ""
    assert stops.found
    assert stops.feed("more") == ""
    stops = OpenStops("... E", ["END"])
    assert stops.feed("N") == ""
    assert stops.feed("C") == "NC"
    assert stops.feed("END") == "END", "one that begins behind the seam is the backend's own"


def test_usage_is_that_of_one_answer() -> None:
    last = Chunk("c", finish_reason="stop", usage=Usage(27, 5, 26))
    (passed,) = seam().feed([last])
    assert passed.usage == Usage(20, 12, 20)
    (passed,) = seam().feed([Chunk(finish_reason="stop", usage=Usage(3, 5))])
    assert passed.usage == Usage(0, 12, 0)
    (passed,) = seam().feed([Chunk(finish_reason="stop")])
    assert passed.usage is None


def test_a_stop_string_across_the_seam_ends_the_stream() -> None:
    joint = seam(sent="x EN", stop="END")
    passed = joint.feed([Chunk("D"), Chunk(" more")])
    assert joint.stopped
    assert text_of(passed) == ""
    assert passed[-1].finish_reason == "stop"
    assert passed[-1].usage == Usage(0, 7)


def test_what_was_held_back_is_let_go_at_the_end() -> None:
    joint = seam(sent="x E", stop="END")
    passed = joint.feed([Chunk("N"), Chunk(finish_reason="length")])
    assert text_of(passed) == "N"
    assert passed[-1].finish_reason == "length"
    assert not joint.stopped
    joint = seam(sent="x E", stop="END")
    call = ToolCall("call_1", "f", "{}")
    assert text_of(joint.feed([Chunk("N"), Chunk(tool_calls=[call])])) == "N"


@pytest.mark.parametrize(
    "chunk",
    [
        Chunk(thinking="hm"),
        Chunk("a", finish_reason="stop"),
        Chunk(tool_calls=[ToolCall("call_1", "f", "{}")]),
        Chunk("b"),
    ],
)
def test_what_does_not_begin_with_the_same_words_diverges(chunk: Chunk) -> None:
    with pytest.raises(Diverged):
        seam("ab").feed([chunk])


def test_a_model_may_think_again_behind_new_text() -> None:
    joint = seam("ab")
    passed = joint.feed([Chunk("abc"), Chunk(thinking="hm")])
    assert (text_of(passed), passed[1].thinking) == ("c", "hm")
    assert joint.begun


def test_swallowed_text_is_no_beginning_and_an_error_passes() -> None:
    joint = seam("ab")
    joint.feed([Chunk("a")])
    assert not joint.begun
    failed = Chunk(error="gone")
    assert joint.feed([failed]) == [failed]
    assert not joint.begun
