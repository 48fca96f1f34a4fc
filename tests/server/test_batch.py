"""What goes together, and how a batch's tokens are divided."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from arriero.server.batch import batch_key, divide
from arriero.wire.canonical import Completion, Embedding, Sampling


def embedding(**more: object) -> Embedding:
    return msgspec.structs.replace(Embedding(model="m", inputs=["text"]), **more)


def test_single_texts_of_the_same_options_go_together() -> None:
    assert batch_key(embedding()) == batch_key(embedding(inputs=["other"], encoding="base64"))
    assert batch_key(embedding()) is not None
    options = {"b": msgspec.Raw(b"1"), "a": msgspec.Raw(b"2")}
    turned = {"a": msgspec.Raw(b"2"), "b": msgspec.Raw(b"1")}
    assert batch_key(embedding(model_options=options)) == batch_key(embedding(model_options=turned))


def test_what_would_be_answered_otherwise_does_not() -> None:
    keys = [
        batch_key(embedding(**more))
        for more in (
            {},
            {"dimensions": 8},
            {"keep_alive": -1},
            {"model_options": {"num_ctx": msgspec.Raw(b"1")}},
            {"model_options": {"num_ctx": msgspec.Raw(b"2")}},
        )
    ]
    assert len(set(keys)) == len(keys)


def test_lists_and_other_requests_have_no_company() -> None:
    assert batch_key(embedding(inputs=["a", "b"])) is None
    assert batch_key(embedding(inputs=[])) is None
    assert batch_key(Completion(model="m", prompt="p", sampling=Sampling())) is None


@given(st.integers(0, 10**9), st.lists(st.integers(0, 10**6), min_size=1, max_size=64))
def test_tokens_are_divided_to_the_last_and_by_length(total: int, lengths: list[int]) -> None:
    shares = divide(total, lengths)
    assert sum(shares) == total
    whole = sum(lengths) + len(lengths)
    for share, length in zip(shares, lengths, strict=True):
        assert abs(share - total * (length + 1) / whole) < 1 + 1e-6 * total
