"""Did you mean."""

from arriero.config import suggest


def test_the_nearest_word_is_suggested() -> None:
    assert suggest.hint("prot", ["port", "host"]) == "did you mean `port`?"


def test_far_words_get_the_choice() -> None:
    assert suggest.hint("xyzzy", ["port", "host"]) == "known here: host, port"


def test_a_long_choice_is_cut() -> None:
    hint = suggest.hint("xyzzy", [f"k{n:02}" for n in range(20)])
    assert hint.endswith("k11, ...")


def test_no_choice_is_said() -> None:
    assert suggest.hint("xyzzy", []) == "none is known here"
