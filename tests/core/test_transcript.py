"""What is remembered of a stream: all of its text, and what else was in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.core import transcript
from arriero.core.transcript import LOOP_PIECES, PIECES_MAX, Transcript
from arriero.wire.canonical import Chunk, ToolCall

PIECES = st.lists(st.text(max_size=6), max_size=60)


def told(*reads: list[Chunk]) -> Transcript:
    sent = Transcript()
    for read in reads:
        sent.add(read)
    return sent


def words(count: int) -> list[Chunk]:
    return [Chunk(f" w{number}") for number in range(count)]


@given(st.lists(PIECES, max_size=8))
def test_the_text_is_what_was_sent_however_it_came(reads: list[list[str]]) -> None:
    sent = told(*[[Chunk(piece) for piece in read] for read in reads])
    assert sent.text() == "".join("".join(read) for read in reads)
    assert sent.pieces == sum(bool(piece) for read in reads for piece in read)


@pytest.mark.parametrize("count", [PIECES_MAX - 1, PIECES_MAX, PIECES_MAX + 1, 5 * PIECES_MAX + 7])
def test_folding_loses_nothing(count: int) -> None:
    by_one = told(*[[chunk] for chunk in words(count)])
    at_once = told(words(count))
    expected = "".join(chunk.content for chunk in words(count))
    assert by_one.text() == at_once.text() == expected
    assert by_one.pieces == at_once.pieces == count
    assert "".join(by_one.tail()) == expected[-len("".join(by_one.tail())) :]
    assert len(by_one.tail()) >= min(count, PIECES_MAX // 2)


def test_other_things_than_text_are_noted_also_when_folded() -> None:
    said = [
        Chunk(thinking="hm "),
        Chunk(thinking="so"),
        Chunk("a"),
        Chunk(tool_calls=[ToolCall("call_1", "f", "{}")]),
        Chunk(finish_reason="stop"),
    ]
    for sent in (told(said), told(said, words(3 * PIECES_MAX))):
        assert sent.thoughts == "hm so"
        assert sent.called
        assert sent.finished
    assert told(said).pieces == 3
    plain = told(words(2))
    assert (plain.thoughts, plain.called, plain.finished) == ("", False, False)


@pytest.mark.parametrize(("count", "loops"), [(LOOP_PIECES - 1, False), (LOOP_PIECES, True)])
def test_a_model_that_repeats_itself_is_seen(count: int, *, loops: bool) -> None:
    again = [Chunk(" the" if at % 2 else "the") for at in range(count)]
    assert told(words(5), again).loops() is loops
    assert not told(words(5), again, words(1)).loops()


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcript, "CHARS_MAX", 10_000)
    piece = "x" * 100
    sent = told([Chunk(piece) for _ in range(100)])
    kept = sent.lost
    for _ in range(2 * PIECES_MAX):
        sent.add([Chunk(piece)])
    assert (kept, sent.lost) == (False, True)
    assert len(sent.text()) <= (PIECES_MAX + 1) * len(piece)
