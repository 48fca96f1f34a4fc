"""Who is asking: keys in the places where clients put them."""

import pytest

from arriero.base.errors import Unauthorized
from arriero.core.access import authenticate, padded_key

DIGEST = padded_key(b"sk-master")


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({}, None),
        ({b"authorization": b"Bearer sk-1"}, b"sk-1"),
        ({b"authorization": b"bearer  sk-1 "}, b"sk-1"),
        ({b"authorization": b"BEARER sk-1"}, b"sk-1"),
        ({b"authorization": b"Bearer "}, b""),
        ({b"authorization": b"Basic c2stMQ=="}, None),
        ({b"authorization": b""}, None),
        ({b"x-api-key": b"sk-1"}, b"sk-1"),
        # The standard header decides where both are: no second guess after a wrong one.
        ({b"authorization": b"Bearer sk-1", b"x-api-key": b"sk-2"}, b"sk-1"),
        ({b"authorization": b"Basic c2stMQ==", b"x-api-key": b"sk-2"}, None),
    ],
)
def test_where_a_key_may_stand(headers: dict[bytes, bytes], key: bytes | None) -> None:
    if key is None:
        with pytest.raises(Unauthorized, match="no API key"):
            authenticate(headers, DIGEST)
    else:
        assert authenticate(headers, padded_key(key)) == "master"


@pytest.mark.parametrize(
    "headers", [{b"authorization": b"Bearer sk-master"}, {b"x-api-key": b"sk-master"}]
)
def test_the_master_key_lets_its_owner_in(headers: dict[bytes, bytes]) -> None:
    assert authenticate(headers, DIGEST) == "master"


@pytest.mark.parametrize("key", [b"", b"sk-maste", b"sk-master2", b"SK-MASTER", b"\xff" * 4096])
def test_other_keys_are_refused(key: bytes) -> None:
    with pytest.raises(Unauthorized, match="not valid") as caught:
        authenticate({b"authorization": b"Bearer " + key}, DIGEST)
    assert b"sk-master" not in caught.value.text.encode()


def test_no_key_is_refused_with_a_way_out() -> None:
    with pytest.raises(Unauthorized, match="no API key") as caught:
        authenticate({}, DIGEST)
    assert caught.value.status == 401
    assert "Authorization: Bearer" in (caught.value.hint or "")


def test_keys_are_compared_at_one_length() -> None:
    assert len(padded_key(b"")) == len(padded_key(b"x" * 100)) == 256


def test_a_key_of_the_greatest_length_and_one_byte_more() -> None:
    longest = b"k" * 256
    assert authenticate({b"x-api-key": longest}, padded_key(longest)) == "master"
    with pytest.raises(Unauthorized, match="not valid"):
        authenticate({b"x-api-key": longest + b"k"}, padded_key(longest))
