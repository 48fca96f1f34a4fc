"""The plain way and the general way must be one in what they say."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.wire.openai_plain import decode_plain_chat
from arriero.wire.openai_request import decode_any_chat

TURNS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant"]), "content": st.text()}
    ),
    min_size=1,
    max_size=4,
)
OPTIONAL = {
    "stream": st.booleans(),
    "temperature": st.none() | st.integers(0, 2) | st.floats(0, 2),
    "max_tokens": st.none() | st.integers(1, 2**31 - 1),
    "max_completion_tokens": st.none() | st.integers(1, 2**31 - 1),
    "top_p": st.none() | st.floats(0, 1),
    "presence_penalty": st.none() | st.floats(-2, 2),
    "frequency_penalty": st.none() | st.floats(-2, 2),
    "stream_options": st.none()
    | st.fixed_dictionaries({}, optional={"include_usage": st.none() | st.booleans()}),
}


@given(
    st.fixed_dictionaries(
        {"model": st.text(min_size=1, max_size=256), "messages": TURNS}, optional=OPTIONAL
    )
)
def test_a_plain_chat_is_the_same_both_ways(body: dict[str, object]) -> None:
    data = msgspec.json.encode(body)
    plain = decode_plain_chat(data)
    assert plain is not None
    assert plain == decode_any_chat(data)


@pytest.mark.parametrize(
    "extra",
    [
        {"tools": []},
        {"seed": 1},
        {"max_tokens": 10.0},
        {"max_tokens": 0},
        {"temperature": 3},
        {"stream": None},
        {"messages": []},
        {"messages": [{"role": "developer", "content": "x"}]},
        {"messages": [{"role": "user", "content": "x", "name": "a"}]},
        {"messages": [{"role": "user", "content": None}]},
        {"model": ""},
        {"unknown": 1},
    ],
)
def test_what_is_not_plain_is_left_to_the_general_way(extra: dict[str, object]) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]} | extra
    assert decode_plain_chat(msgspec.json.encode(body)) is None


@given(st.binary())
def test_no_bytes_make_it_raise(data: bytes) -> None:
    assert decode_plain_chat(data) is None
