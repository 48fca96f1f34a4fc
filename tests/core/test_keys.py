"""The ring of keys: found by their secrets, for as long as they are good."""

from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from arriero.core.keys import Key, KeyRing, Limits, Sharer, digest, hint

PEPPER = b"p" * 32
SECRETS = [f"sk-secret-number-{n}" for n in range(6)]


def key(key_id: str, secret: str, **more: Any) -> Key:
    return Key(id=key_id, digest=digest(secret.encode(), PEPPER), **more)


def ring(*keys: Key) -> KeyRing:
    return KeyRing(PEPPER, keys)


def test_a_key_is_found_by_its_secret_alone() -> None:
    one = key("one", SECRETS[0])
    known = ring(one, key("two", SECRETS[1]))
    assert known.find(SECRETS[0].encode()) is one
    assert known.find(SECRETS[2].encode()) is None
    assert known.find(one.digest) is None
    assert known.find(b"one") is None


def test_another_pepper_finds_nothing() -> None:
    assert KeyRing(b"q" * 32, [key("one", SECRETS[0])]).find(SECRETS[0].encode()) is None


def test_a_hint_tells_the_last_four() -> None:
    assert hint("sk-0123456789abcdef") == "sk-...cdef"


@pytest.mark.parametrize(
    ("models", "alias", "allowed"),
    [
        ((), "anything", True),
        (("llama",), "llama", True),
        (("llama",), "llama2", False),
        (("llama*",), "llama2", True),
        (("org/*",), "org/a/b", True),
        (("org/*", "x"), "x", True),
        (("[x]",), "[x]", True),
        (("*",), "anything", True),
        (("Llama*",), "llama", False),
    ],
)
def test_models(models: tuple[str, ...], alias: str, *, allowed: bool) -> None:
    assert key("one", SECRETS[0], models=models).may_use(alias) is allowed


def test_operations() -> None:
    assert key("one", SECRETS[0]).may_do("chat")
    narrow = key("one", SECRETS[0], operations=("embedding",))
    assert narrow.may_do("embedding")
    assert not narrow.may_do("chat")


def test_both_secrets_work_while_a_rotation_lasts() -> None:
    old = digest(SECRETS[0].encode(), PEPPER)
    rotated = key("one", SECRETS[1], previous_digest=old, previous_until_unix_s=100.0)
    known = ring(rotated)
    known.expire(99.9)
    assert known.find(SECRETS[0].encode()) is known.find(SECRETS[1].encode()) is rotated
    known.expire(100.0)
    assert known.find(SECRETS[0].encode()) is None
    assert known.find(SECRETS[1].encode()) is rotated


def test_every_change_makes_a_new_epoch() -> None:
    known = ring()
    seen = [known.epoch]

    def note() -> None:
        assert all(known.epoch is not earlier for earlier in seen)
        seen.append(known.epoch)

    known.put(key("one", SECRETS[0], expires_unix_s=5.0))
    note()
    known.put(key("one", SECRETS[0], expires_unix_s=5.0, blocked=True))
    note()
    known.expire(4.0)
    assert known.epoch is seen[-1]
    known.expire(5.0)
    note()
    known.remove("one")
    note()


def test_many_keys() -> None:
    known = KeyRing(PEPPER)
    for n in range(2000):
        known.put(key(f"key-{n:016x}", f"sk-{n:040}", alias=f"service {n}", owner="team"))
    assert len(known) == 2000
    assert known.find(f"sk-{77:040}".encode()) is known.by_alias("service 77")


class RingMachine(RuleBasedStateMachine):
    """A ring beside a list of keys that is searched from end to end."""

    @initialize()
    def begin(self) -> None:
        self.now_s = 1.0
        self.known = KeyRing(PEPPER)
        self.naive: dict[str, tuple[Key, str, str]] = {}

    @rule(
        key_id=st.sampled_from("abc"),
        secret=st.sampled_from(SECRETS),
        previous=st.sampled_from(["", *SECRETS]),
        until_s=st.floats(0.0, 50.0),
        expires_s=st.sampled_from([0.0, 5.0, 20.0, 40.0]),
        blocked=st.booleans(),
        alias=st.sampled_from(["", "x", "y"]),
    )
    def put(
        self,
        key_id: str,
        secret: str,
        previous: str,
        until_s: float,
        expires_s: float,
        alias: str,
        *,
        blocked: bool,
    ) -> None:
        taken = {one for other in self.naive.values() for one in other[1:] if other[0].id != key_id}
        names = {other[0].alias for other in self.naive.values() if other[0].id != key_id}
        if {secret, previous} & taken or (alias and alias in names) or secret == previous:
            return  # the store refuses such keys
        new = key(
            key_id,
            secret,
            alias=alias,
            blocked=blocked,
            expires_unix_s=expires_s,
            previous_digest=digest(previous.encode(), PEPPER) if previous else b"",
            previous_until_unix_s=until_s if previous else 0.0,
        )
        self.naive[key_id] = (new, secret, previous)
        self.known.put(new)
        self.known.expire(self.now_s)

    @rule(key_id=st.sampled_from("abc"))
    def remove(self, key_id: str) -> None:
        self.naive.pop(key_id, None)
        self.known.remove(key_id)

    @rule(seconds=st.floats(0.0, 20.0))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds
        self.known.expire(self.now_s)

    @invariant()
    def each_secret_finds_what_a_search_finds(self) -> None:
        for secret in SECRETS:
            found = None
            for one, current, previous in self.naive.values():
                good = not one.blocked and not one.is_expired(self.now_s)
                in_time = secret == previous and self.now_s < one.previous_until_unix_s
                if good and (secret == current or in_time):
                    found = one
            assert self.known.find(secret.encode()) is found

    @invariant()
    def ids_and_names_lead_to_their_keys(self) -> None:
        assert {one.id for one in self.known} == set(self.naive)
        for key_id, (one, *_) in self.naive.items():
            assert self.known.get(key_id) is one
        for alias in ("x", "y"):
            owners = [one for one, *_ in self.naive.values() if one.alias == alias]
            assert self.known.by_alias(alias) is (owners[0] if owners else None)


TestRing = RingMachine.TestCase
TestRing.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def test_administrators_find_every_key_by_its_secret() -> None:
    one = key("one", SECRETS[0], blocked=True)
    two = key("two", SECRETS[1], expires_unix_s=10.0)
    known = ring(one, two)
    known.expire(20.0)
    assert known.find(SECRETS[0].encode()) is None
    assert known.find(SECRETS[1].encode()) is None
    assert known.owner_of(SECRETS[0]) is one
    assert known.owner_of(SECRETS[1]) is two
    assert known.owner_of(SECRETS[2]) is None
    known.put(key("two", SECRETS[3]))
    assert known.owner_of(SECRETS[1]) is None
    known.remove("one")
    assert known.owner_of(SECRETS[0]) is None


def test_what_is_equal_in_many_keys_is_kept_once() -> None:
    def read() -> Key:
        key = Key(
            id="k", digest=b"d", models=("a", "b"), tags=("t",), limits=Limits(concurrent=1),
            created_by="master", created_unix_s=1.5,
        )  # fmt: skip
        return msgspec.json.decode(msgspec.json.encode(key), type=Key)

    sharer = Sharer()
    one, other, same = sharer.lean(read()), sharer.lean(read()), read()
    assert one == other == same
    for name in ("models", "tags", "limits", "created_by", "expires_unix_s"):
        assert getattr(one, name) is getattr(other, name)
    assert one.models is not same.models


def test_a_key_of_before_is_read_with_all_its_fields() -> None:
    """Fields at their defaults are not written; once they were."""
    bare = Key(id="k", digest=b"d")
    written = msgspec.json.encode(bare)
    assert set(msgspec.json.decode(written)) == {"id", "digest"}
    whole = msgspec.json.encode(msgspec.structs.asdict(bare))
    assert msgspec.json.decode(whole, type=Key) == msgspec.json.decode(written, type=Key) == bare
