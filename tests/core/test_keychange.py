"""Changes of keys: merge patches, rotations, and what the audit is told."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.base.errors import BadRequest
from arriero.core.keychange import (
    DURATION_S_MAX,
    Change,
    Drawn,
    Patch,
    Stamp,
    block,
    check_secret,
    delete,
    lifetime,
    make,
    rotate,
    seconds_of,
    update,
)
from arriero.core.keys import Key, KeyRing, Limits, digest

PEPPER = b"p" * 32
NOW_S = 1_800_000_000.0
STAMP = Stamp("master", NOW_S)
LATER = Stamp("key-admin", NOW_S + 60)
FIRST = Drawn(digest(b"sk-first-0123456789", PEPPER), "sk-...6789")
SECOND = Drawn(digest(b"sk-second-012345678", PEPPER), "sk-...5678")
FULL = Patch(
    alias="bob",
    role="read_only",
    owner="bob@example.com",
    models=("llama*",),
    operations=("chat",),
    priority="background",
    trusted=True,
    blocked=False,
    lifetime_s=3600.0,
    requests_per_minute=60,
    tokens_per_day=1000,
    per_model={"phi": Limits(concurrent=1)},
    tags=("a",),
    metadata=b'{"secret of the client": "sk-inside"}',
    labels={"team_id": "core", "project_id": None},
)


def made(patch: Patch = FULL) -> Key:
    return make("key-1", FIRST, patch, STAMP).key


def fields(change: Change) -> list[str]:
    told: list[str] = json.loads(change.detail)["fields"]
    return told


def test_a_key_is_made_as_it_is_wanted() -> None:
    key = made()
    assert (key.id, key.digest, key.hint) == ("key-1", FIRST.digest, "sk-...6789")
    assert (key.alias, key.role, key.owner) == ("bob", "read_only", "bob@example.com")
    assert key.expires_unix_s == NOW_S + 3600
    assert key.limits == Limits(requests_per_minute=60, tokens_per_day=1000)
    assert key.per_model == {"phi": Limits(concurrent=1)}
    assert key.labels == {"team_id": "core"}
    assert (key.created_by, key.created_unix_s) == ("master", NOW_S)
    assert (key.updated_by, key.updated_unix_s) == ("master", NOW_S)


def test_a_key_of_nothing_is_the_plain_one() -> None:
    key = made(Patch())
    plain = Key(
        id="key-1",
        digest=FIRST.digest,
        hint=FIRST.hint,
        created_unix_s=NOW_S,
        created_by="master",
        updated_unix_s=NOW_S,
        updated_by="master",
    )
    assert key == plain


def test_what_is_left_out_stays() -> None:
    change = update(made(), Patch(), LATER)
    stamped = msgspec.structs.replace(made(), updated_by="key-admin", updated_unix_s=NOW_S + 60)
    assert change.key == stamped
    assert fields(change) == []


CLEARED: dict[str, None] = dict.fromkeys(Patch.__struct_fields__)


def test_null_clears_everything() -> None:
    change = update(made(), Patch(**CLEARED), STAMP)
    assert change.key == made(Patch())
    assert "limits" in fields(change)


@pytest.mark.parametrize("name", Patch.__struct_fields__)
def test_every_field_can_be_cleared_alone(name: str) -> None:
    key = made(
        msgspec.structs.replace(
            FULL,
            tokens_per_minute=5,
            concurrent=2,
            tokens_per_month=7,
            blocked=True,
            model_requests_per_minute={"phi": 3},
            model_tokens_per_minute={"phi": 4},
        )
    )
    change = update(key, Patch(**{name: None}), STAMP)
    assert len(fields(change)) == 1


def test_limits_change_one_by_one() -> None:
    key = update(made(), Patch(requests_per_minute=None, concurrent=2), STAMP).key
    assert key.limits == Limits(concurrent=2, tokens_per_day=1000)


def test_a_limit_of_models_replaces_that_one_of_all_models() -> None:
    key = update(made(), Patch(model_requests_per_minute={"phi": 1, "llama": 2}), STAMP).key
    assert key.per_model == {
        "phi": Limits(concurrent=1, requests_per_minute=1),
        "llama": Limits(requests_per_minute=2),
    }
    key = update(key, Patch(model_requests_per_minute={"llama": 3}), STAMP).key
    assert key.per_model == {"phi": Limits(concurrent=1), "llama": Limits(requests_per_minute=3)}
    key = update(key, Patch(per_model={}, model_tokens_per_minute={"x": 9}), STAMP).key
    assert key.per_model == {"x": Limits(tokens_per_minute=9)}
    assert update(key, Patch(model_tokens_per_minute={}), STAMP).key.per_model is None


def test_labels_are_merged() -> None:
    key = update(made(), Patch(labels={"agent_id": "x", "team_id": None}), STAMP).key
    assert key.labels == {"agent_id": "x"}


def test_both_secrets_work_while_grace_lasts() -> None:
    old = made(Patch())
    new = rotate(old, SECOND, Patch(), LATER, grace_s=100).key
    ring = KeyRing(PEPPER, [new])
    assert ring.find(b"sk-first-0123456789") is new
    assert ring.find(b"sk-second-012345678") is new
    ring.expire(NOW_S + 159)
    assert ring.find(b"sk-first-0123456789") is new
    ring.expire(NOW_S + 160)
    assert ring.find(b"sk-first-0123456789") is None
    assert ring.find(b"sk-second-012345678") is new


def test_without_grace_the_old_secret_ends_at_once() -> None:
    new = rotate(made(Patch()), SECOND, Patch(), STAMP).key
    ring = KeyRing(PEPPER, [new])
    assert ring.find(b"sk-first-0123456789") is None
    assert ring.find(b"sk-second-012345678") is new


def test_a_key_has_two_secrets_at_most() -> None:
    third = Drawn(digest(b"sk-third-0123456789", PEPPER), "sk-...6789")
    new = rotate(made(Patch()), SECOND, Patch(), STAMP, grace_s=100).key
    newest = rotate(new, third, Patch(), STAMP, grace_s=100).key
    ring = KeyRing(PEPPER, [newest])
    assert ring.find(b"sk-first-0123456789") is None
    assert ring.find(b"sk-second-012345678") is newest


def test_a_rotation_may_change_more() -> None:
    change = rotate(made(), SECOND, Patch(models=None, lifetime_s=None), STAMP, grace_s=5)
    assert (change.key.models, change.key.expires_unix_s) == ((), 0.0)
    assert fields(change) == ["models", "expires_unix_s"]
    assert json.loads(change.detail)["grace_s"] == 5


def test_block_and_unblock_change_that_alone() -> None:
    blocked = block(made(), LATER, blocked=True)
    assert (blocked.action, fields(blocked)) == ("block", ["blocked"])
    free = block(blocked.key, LATER, blocked=False)
    assert free.action == "unblock"
    assert free.key == update(made(), Patch(), LATER).key


def test_no_detail_holds_a_value() -> None:
    key = made()
    changes = (
        make("key-1", FIRST, FULL, STAMP),
        update(key, Patch(owner="someone", metadata=b'{"x": "sk-other"}'), STAMP),
        rotate(key, SECOND, Patch(), STAMP),
        block(key, STAMP, blocked=True),
        delete(key),
    )
    for change in changes:
        told = change.detail.decode()
        assert json.loads(told)["alias"] == "bob"
        for hidden in ("sk-", "someone", "example.com", "core", FIRST.hint, "llama"):
            assert hidden not in told, change.action


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "sk-",
        "sk-too-short-15",
        "pk-0123456789abcdef",
        "sk-" + "x" * 254,
        "sk-with a blank 01234",
        "sk-ümlaut-0123456789",
        "sk-line\nbreak-0123456",
    ],
)
def test_not_every_text_can_be_a_secret(secret: str) -> None:
    with pytest.raises(BadRequest) as error:
        check_secret(secret, "key")
    assert error.value.param == "key"
    assert not secret or secret == "sk-" or secret not in error.value.text


def test_a_secret_of_sixteen_characters_can() -> None:
    assert check_secret("sk-0123456789abc", "key") == "sk-0123456789abc"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("30m", 1800.0),
        ("30h", 108_000.0),
        ("30d", 2_592_000.0),
        ("1h30m", 5400.0),
        ("90", 90.0),
        ("-1", None),
        (None, None),
    ],
)
def test_durations(text: str | None, seconds: float | None) -> None:
    assert lifetime(text) == seconds


@pytest.mark.parametrize("text", ["", "30 days", "1mo", "-2", "0s", "0", "1e9", "99999999d", "inf"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(BadRequest) as error:
        lifetime(text)
    assert error.value.param == "duration"
    assert error.value.hint


@given(st.text(max_size=12))
def test_a_duration_is_a_number_in_bounds_or_refused(text: str) -> None:
    try:
        seconds = seconds_of(text, "x")
    except BadRequest:
        return
    assert 0 <= seconds <= DURATION_S_MAX


@pytest.mark.parametrize("alias", ["sk-0123456789abcdef", "a\nb", " a", "a ", "\x00"])
def test_not_every_text_can_be_an_alias(alias: str) -> None:
    with pytest.raises(BadRequest) as error:
        make("key-1", FIRST, Patch(alias=alias), STAMP)
    assert error.value.param == "key_alias"
    assert "0123456789abcdef" not in error.value.text


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "owner": st.sampled_from(["", "ann", "bob"]),
    "models": st.sampled_from([(), ("a",), ("a", "b*")]),
    "trusted": st.booleans(),
    "requests_per_minute": st.integers(0, 3),
    "tokens_per_month": st.integers(0, 3),
    "model_requests_per_minute": st.dictionaries(st.sampled_from("ab"), st.integers(0, 2)),
    "model_tokens_per_minute": st.dictionaries(st.sampled_from("ab"), st.integers(0, 2)),
    "labels": st.dictionaries(st.sampled_from(["team_id", "x"]), st.sampled_from(["", "1"])),
    "metadata": st.sampled_from([b"", b'{"a": 1}']),
}
patches = st.fixed_dictionaries(
    {}, optional={name: st.none() | values for name, values in VALUES.items()}
).map(lambda given: Patch(**given))


@given(patches, patches)
def test_the_same_patch_twice_is_as_good_as_once(first: Patch, second: Patch) -> None:
    key = update(made(first), second, STAMP).key
    assert update(key, second, STAMP).key == key
    assert fields(update(key, second, STAMP)) == []


@given(patches)
def test_the_detail_names_what_is_other_and_nothing_else(patch: Patch) -> None:
    old = made()
    change = update(old, patch, LATER)
    stamps = {"updated_by": "master", "updated_unix_s": NOW_S}
    back = {name: getattr(old, name) for name in fields(change)}
    assert msgspec.structs.replace(change.key, **stamps, **back) == old
    assert all(getattr(old, name) != getattr(change.key, name) for name in fields(change))
