import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.embedded.tokenizer import Detokenizer, Tokenizer
from arriero.embedded.weights import Vocabulary


@pytest.fixture(scope="session")
def tokenizer(vocabulary: Vocabulary) -> Tokenizer:
    return Tokenizer(vocabulary)


@given(text=st.text().filter(lambda text: "<|" not in text))
def test_text_survives_the_round_trip(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(text=st.text(max_size=30).filter(lambda text: "<|" not in text))
def test_token_by_token_gives_the_same_and_never_half_a_character(
    tokenizer: Tokenizer, text: str
) -> None:
    detokenizer = Detokenizer(tokenizer)
    pieces = [detokenizer.feed(token) for token in tokenizer.encode(text)]
    assert "".join(pieces) == text
    assert all("\N{REPLACEMENT CHARACTER}" not in piece for piece in pieces) or (
        "\N{REPLACEMENT CHARACTER}" in text
    )


def test_a_character_of_four_bytes_comes_with_its_last(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("\N{LLAMA}")
    assert len(tokens) == 4
    detokenizer = Detokenizer(tokenizer)
    assert [detokenizer.feed(token) for token in tokens] == ["", "", "", "\N{LLAMA}"]


def test_merges_apply(tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
    texts = [vocabulary.tokens[token] for token in tokenizer.encode("the cat in the cat")]
    assert texts == ["t", "he", "Ġ", "cat", "Ġ", "in", "Ġthe", "Ġ", "cat"]


def test_every_digit_stands_alone(tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
    assert [vocabulary.tokens[token] for token in tokenizer.encode("12 3")] == ["1", "2", "Ġ", "3"]


def test_markers_are_one_token_and_no_text(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("<|im_start|>the<|im_end|>")
    assert (tokens[0], tokens[-1]) == (1, 2)
    assert tokenizer.decode(tokens) == "the"


def test_lone_surrogates_do_not_break_it(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a?b"


def test_the_ends_of_a_turn_are_known(tokenizer: Tokenizer) -> None:
    assert tokenizer.end_ids == {0, 2}
