"""Who is asking: keys in the places where clients put them."""

from collections.abc import Mapping

import msgspec
import pytest

from arriero.base.errors import Forbidden, Unauthorized
from arriero.core.access import authenticate, authorise, check_model, master_key, padded_key
from arriero.core.keys import Key, KeyRing, Role, digest

DIGEST = padded_key(b"sk-master")
MASTER = master_key(trusted=True)
VIRTUAL = Key(id="key-1", digest=digest(b"sk-virtual", b"pepper"))


def let_in(headers: Mapping[bytes, bytes], padded_master: bytes | None = DIGEST, *keys: Key) -> Key:
    return authenticate(headers, padded_master, MASTER, KeyRing(b"pepper", keys))


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
            let_in(headers)
    else:
        assert let_in(headers, padded_key(key)) is MASTER


@pytest.mark.parametrize(
    "headers", [{b"authorization": b"Bearer sk-master"}, {b"x-api-key": b"sk-master"}]
)
def test_the_master_key_lets_its_owner_in(headers: dict[bytes, bytes]) -> None:
    assert let_in(headers) is MASTER


@pytest.mark.parametrize("key", [b"", b"sk-maste", b"sk-master2", b"SK-MASTER", b"\xff" * 4096])
def test_other_keys_are_refused(key: bytes) -> None:
    with pytest.raises(Unauthorized, match="not valid") as caught:
        let_in({b"authorization": b"Bearer " + key})
    assert b"sk-master" not in caught.value.text.encode()


def test_no_key_is_refused_with_a_way_out() -> None:
    with pytest.raises(Unauthorized, match="no API key") as caught:
        let_in({})
    assert caught.value.status == 401
    assert "Authorization: Bearer" in (caught.value.hint or "")


def test_keys_are_compared_at_one_length() -> None:
    assert len(padded_key(b"")) == len(padded_key(b"x" * 100)) == 256


def test_a_key_of_the_greatest_length_and_one_byte_more() -> None:
    longest = b"k" * 256
    assert let_in({b"x-api-key": longest}, padded_key(longest)) is MASTER
    with pytest.raises(Unauthorized, match="not valid"):
        let_in({b"x-api-key": longest + b"k"}, padded_key(longest))


# -- virtual keys


def test_a_virtual_key_lets_its_owner_in_beside_the_master() -> None:
    headers = {b"authorization": b"Bearer sk-virtual"}
    assert let_in(headers, DIGEST, VIRTUAL) is VIRTUAL
    assert let_in(headers, None, VIRTUAL) is VIRTUAL
    assert let_in({b"x-api-key": b"sk-master"}, DIGEST, VIRTUAL) is MASTER


def test_every_bad_key_is_told_the_same() -> None:
    blocked = msgspec.structs.replace(VIRTUAL, blocked=True)
    told = set()
    for key in (b"sk-virtual", b"sk-unknown", b"", b"k" * 300, VIRTUAL.digest, b"key-1"):
        with pytest.raises(Unauthorized) as caught:
            let_in({b"x-api-key": key}, DIGEST, blocked)
        told.add((caught.value.text, caught.value.status, caught.value.code))
    assert len(told) == 1


def test_a_gateway_without_any_key_says_so() -> None:
    with pytest.raises(Unauthorized, match="no master key"):
        let_in({b"x-api-key": b"sk-1"}, None)


@pytest.mark.parametrize(
    ("role", "operations", "allowed", "sees_inside"),
    [
        ("admin", (), {"chat", "embedding", "models"}, True),
        ("user", (), {"chat", "embedding", "models"}, False),
        ("user", ("embedding",), {"embedding"}, False),
        ("read_only", (), {"models"}, True),
    ],
)
def test_what_a_key_may_do(
    role: Role,
    operations: tuple[str, ...],
    allowed: set[str],
    sees_inside: bool,  # noqa: FBT001 - a column of the table
) -> None:
    key = msgspec.structs.replace(VIRTUAL, role=role, operations=operations)
    for operation in ("chat", "embedding", "models"):
        if operation in allowed:
            authorise(key, operation, inner=False)
        else:
            with pytest.raises(Forbidden):
                authorise(key, operation, inner=False)
    if sees_inside:
        authorise(key, "metrics", inner=True)
    else:
        with pytest.raises(Forbidden):
            authorise(key, "metrics", inner=True)


def test_a_forbidden_model_is_told_like_one_that_does_not_exist() -> None:
    key = msgspec.structs.replace(VIRTUAL, models=("llama*",))
    check_model(key, "llama3")
    told = []
    for model in ("secret-model", "no-such-model"):
        with pytest.raises(Forbidden) as caught:
            check_model(key, model)
        told.append(caught.value.text)
    assert told[0] == told[1]
    check_model(VIRTUAL, "anything")
