"""What any store must do, whichever database it is."""

from collections.abc import Callable, Sequence
from threading import Thread

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arriero.core.keys import Key, Limits
from arriero.store import usage
from arriero.store.port import (
    AuditEntry,
    KeyConflict,
    KeyUnreadable,
    Store,
    UsageBatch,
    UsageDay,
    UsageField,
    UsageQuery,
    UsageRow,
)

NOON = 1_800_000_000.0  # 2027-01-15, 08:00 UTC
FULL = Key(
    id="key-1",
    digest=b"\x00\xff" * 16,
    hint="sk-...wxyz",
    alias="Jürgen's 'key' %s :name",
    role="admin",
    owner="team-a",
    models=("llama*", "phi"),
    operations=("chat", "embedding"),
    priority="background",
    trusted=True,
    blocked=True,
    expires_unix_s=NOON + 0.125,
    limits=Limits(requests_per_minute=60, tokens_per_day=2**39),
    per_model={"phi": Limits(concurrent=1)},
    tags=("a", "b"),
    metadata=b'{"x": [1, null]}',
    labels={"team_id": "a"},
    created_unix_s=NOON,
    created_by="master",
    updated_unix_s=NOON + 1,
    updated_by="key-2",
    previous_digest=b"\x01" * 32,
    previous_until_unix_s=NOON + 2,
)


def key(number: int, alias: str = "") -> Key:
    return Key(id=f"key-{number}", digest=bytes([number]) * 32, alias=alias)


def entry(of: Key | str, action: str = "create") -> AuditEntry:
    return AuditEntry(
        NOON, "master", action, of if isinstance(of, str) else of.id, b'{"a": "%"}', "::1"
    )


def put(store: Store, *keys: Key) -> int:
    return [store.put_key(one, entry(one)) for one in keys][-1]


def row(number: int = 0, **more: object) -> UsageRow:
    plain = UsageRow(
        f"r{number}", NOON, "key-1", "", "llama", "llama3:8b", "a", "chat", "ok", 200, 10, 3, 20,
        0.5, 0.25, 1.5,
    )  # fmt: skip
    return msgspec.structs.replace(plain, **more)


def add(store: Store, rows: Sequence[UsageRow]) -> None:
    batch = UsageBatch()
    usage.add(batch, rows)
    store.add_usage(batch)


# -- pepper


def test_the_first_pepper_is_everybodys(connect: Callable[[], Store]) -> None:
    assert connect().pepper(b"\x00first") == b"\x00first"
    assert connect().pepper(b"second") == b"\x00first"


# -- keys


def test_a_key_comes_back_as_it_was(store: Store) -> None:
    put(store, FULL)
    assert store.load_keys().changed == (FULL,)


def test_a_key_that_this_version_cannot_read_is_told_with_its_id(store: Store) -> None:
    beyond = msgspec.structs.replace(FULL, limits=Limits(requests_per_minute=10**9))
    put(store, beyond)
    with pytest.raises(KeyUnreadable, match=r"key-1 cannot.*requests_per_minute") as told:
        store.load_keys()
    assert told.value.hint
    assert "digest" not in str(told.value)


def test_a_key_is_replaced_by_its_id(store: Store) -> None:
    put(store, key(1, "old"), key(2, "two"))
    put(store, key(1, "new"))
    assert {one.alias for one in store.load_keys().changed} == {"new", "two"}


@pytest.mark.parametrize(
    "other", [key(2, "same"), msgspec.structs.replace(key(2), digest=key(1).digest)]
)
def test_names_and_secrets_are_unique(store: Store, other: Key) -> None:
    seq = put(store, key(1, "same"))
    with pytest.raises(KeyConflict):
        store.put_key(other, entry(other))
    assert store.changes_since(0).seq == seq
    assert [one.id for one in store.load_keys().changed] == ["key-1"]
    assert len(store.audit()) == 1, "what was refused is not in the audit either"


def test_many_keys_may_be_without_a_name(store: Store) -> None:
    put(store, key(1), key(2), key(3))
    assert len(store.load_keys().changed) == 3


def test_a_removed_key_is_gone(store: Store) -> None:
    put(store, key(1), key(2))
    store.remove_key("key-1", entry("key-1", "delete"))
    assert [one.id for one in store.load_keys().changed] == ["key-2"]
    put(store, key(1))
    assert len(store.load_keys().changed) == 2


def test_changes_reach_another_gateway(connect: Callable[[], Store]) -> None:
    here, there = connect(), connect()
    put(here, key(1), key(2), key(3))
    known = there.load_keys()
    assert len(known.changed) == 3
    assert there.changes_since(known.seq).changed == ()
    put(here, key(4), key(1, "named"))
    here.remove_key("key-2", entry("key-2", "delete"))
    here.remove_key("key-3", entry("key-3", "delete"))
    put(here, key(3, "again"))
    news = there.changes_since(known.seq)
    assert {one.id: one.alias for one in news.changed} == {
        "key-4": "",
        "key-1": "named",
        "key-3": "again",
    }
    assert news.removed == ("key-2",)
    assert there.changes_since(news.seq) == msgspec.structs.replace(news, changed=(), removed=())


def renamed(**fields: object) -> Callable[[Key], tuple[Key, AuditEntry]]:
    def change(stored: Key) -> tuple[Key, AuditEntry]:
        return msgspec.structs.replace(stored, **fields), entry(stored, "update")

    return change


def test_a_change_is_made_of_what_is_in_the_store(connect: Callable[[], Store]) -> None:
    here, there = connect(), connect()
    put(here, FULL)
    here.change_key("key-1", renamed(owner="ann"))
    changed = there.change_key("key-1", renamed(tags=("new",)))
    assert changed == msgspec.structs.replace(FULL, owner="ann", tags=("new",))
    assert here.load_keys().changed == (changed,)
    assert [one.action for one in here.audit()] == ["update", "update", "create"]


def test_changes_of_one_key_at_the_same_time_are_all_kept(connect: Callable[[], Store]) -> None:
    stores = [connect() for _ in range(4)]
    put(stores[0], key(1))
    each = 10

    def add(at: int) -> None:
        for number in range(each):

            def tag(stored: Key, word: str = f"{at}-{number}") -> tuple[Key, AuditEntry]:
                tagged = msgspec.structs.replace(stored, tags=(*stored.tags, word))
                return tagged, entry(stored, "update")

            stores[at].change_key("key-1", tag)

    threads = [Thread(target=add, args=(at,)) for at in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (found,) = stores[0].load_keys().changed
    assert sorted(found.tags) == sorted(f"{at}-{n}" for at in range(4) for n in range(each))
    assert len(stores[0].audit()) == 1 + len(found.tags)


def test_a_change_that_fails_changes_nothing(store: Store) -> None:
    seq = put(store, key(1, "one"), key(2, "two"))

    def refuse(_: Key) -> tuple[Key, AuditEntry]:
        raise ValueError("not like that")

    with pytest.raises(ValueError, match="not like that"):
        store.change_key("key-1", refuse)
    with pytest.raises(KeyConflict):
        store.change_key("key-1", renamed(alias="two"))
    assert store.change_key("key-3", renamed(alias="three")) is None
    assert store.changes_since(0).seq == seq
    assert len(store.audit()) == 2


def test_numbers_of_changes_never_come_again(store: Store) -> None:
    first = put(store, key(1))
    second = store.remove_key("key-1", entry("key-1", "delete"))
    third = put(store, key(1))
    assert first < second < third


def test_writers_take_turns(connect: Callable[[], Store]) -> None:
    stores = [connect() for _ in range(4)]

    def write(at: int) -> None:
        for number in range(20):
            put(stores[at], key(at * 20 + number))

    threads = [Thread(target=write, args=(at,)) for at in range(4)]
    seen: set[str] = set()
    seq = 0
    reader = connect()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        news = reader.changes_since(seq)
        assert seen.isdisjoint(one.id for one in news.changed)
        seen |= {one.id for one in news.changed}
        seq = news.seq
    for thread in threads:
        thread.join()
    seen |= {one.id for one in reader.changes_since(seq).changed}
    assert len(seen) == 80, "a reader that follows the numbers misses nobody"


# -- audit


def test_the_audit_tells_the_newest_first(store: Store) -> None:
    for number in range(5):
        put(store, key(number))
    store.remove_key("key-3", entry("key-3", "delete"))
    told = store.audit()
    assert [(one.action, one.key_id) for one in told][:2] == [
        ("delete", "key-3"),
        ("create", "key-4"),
    ]
    assert told[0] == msgspec.structs.replace(entry("key-3", "delete"), seq=told[0].seq)
    assert [one.key_id for one in store.audit(rows_max=2)] == ["key-3", "key-4"]
    assert [one.key_id for one in store.audit(before_seq=told[1].seq, rows_max=2)] == [
        "key-3",
        "key-2",
    ]
    assert [one.action for one in store.audit(key_id="key-3")] == ["delete", "create"]


# -- usage


def test_usage_is_added_up_by_day(store: Store) -> None:
    add(store, [row(1), row(2, outcome="backend_error", completion_tokens=0)])
    add(store, [row(3), row(4, at_unix_s=NOON + 86_400), row(5, user="ann")])
    assert store.usage_days(UsageQuery()) == [
        UsageDay("2027-01-15", "key-1", "", "llama", "a", 3, 1, 30, 9, 40),
        UsageDay("2027-01-15", "key-1", "ann", "llama", "a", 1, 0, 10, 3, 20),
        UsageDay("2027-01-16", "key-1", "", "llama", "a", 1, 0, 10, 3, 20),
    ]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (UsageQuery(), {"r1", "r2", "r3", "r4"}),
        (UsageQuery(key_id="key-2"), {"r2"}),
        (UsageQuery(user="ann"), {"r3"}),
        (UsageQuery(alias="phi"), {"r4"}),
        (UsageQuery(backend="b"), {"r2"}),
        (UsageQuery(first_day="2027-01-16"), {"r3"}),
        (UsageQuery(last_day="2027-01-15"), {"r1", "r2", "r4"}),
        (UsageQuery(first_day="2027-01-15", last_day="2027-01-15", key_id="key-1"), {"r1", "r4"}),
        (UsageQuery(key_id="' or ''='"), set()),
        (UsageQuery(rows_max=1), {"r4"}),
    ],
)
def test_usage_is_narrowed_alike_by_request_and_by_day(
    store: Store, query: UsageQuery, found: set[str]
) -> None:
    add(
        store,
        [
            row(1),
            row(2, key_id="key-2", backend="b"),
            row(3, user="ann", at_unix_s=NOON + 86_400),
            row(4, alias="phi"),
        ],
    )
    assert {one.request_id for one in store.usage_requests(query)} == found
    assert sum(day.requests for day in store.usage_days(query)) == len(found)


def test_a_request_comes_back_as_it_was(store: Store) -> None:
    odd = row(1, alias="%s :x 'ü'", first_token_s=-1.0, prompt_tokens=2**40)
    add(store, [odd])
    (found,) = store.usage_requests(UsageQuery())
    assert found == msgspec.structs.replace(odd, seq=found.seq)
    assert store.usage_requests(UsageQuery(alias=odd.alias)) == [found]
    assert store.usage_requests(UsageQuery(before_seq=found.seq)) == []
    assert store.usage_requests(UsageQuery(before_seq=10**30)) == [found]


def test_a_list_of_requests_goes_on_where_it_ended(store: Store) -> None:
    add(store, [row(number) for number in range(5)])
    pages = []
    before = 0
    while page := store.usage_requests(UsageQuery(rows_max=2, before_seq=before)):
        pages.append([one.request_id for one in page])
        before = page[-1].seq
    assert pages == [["r4", "r3"], ["r2", "r1"], ["r0"]]


@pytest.mark.parametrize("rows_max", [1, 499, 500, 501, 10_000])
def test_a_list_of_requests_is_in_the_order_of_writing(store: Store, rows_max: int) -> None:
    """Whatever was written at once, and however much of it is read at once."""
    batches = [1] * 20 + [500, 2, 501]
    written = 0
    for batch in batches:
        add(store, [row(written + number) for number in range(batch)])
        written += batch
    found: list[UsageRow] = []
    before = 0
    while len(found) < min(written, 2 * rows_max):
        found += store.usage_requests(UsageQuery(rows_max=rows_max, before_seq=before))
        before = found[-1].seq
    assert [one.request_id for one in found] == [
        f"r{written - 1 - number}" for number in range(len(found))
    ]
    assert len({one.seq for one in found}) == len(found)


def test_numbers_of_requests_never_come_again(store: Store) -> None:
    add(store, [row(1)])
    (first,) = store.usage_requests(UsageQuery())
    assert store.prune(NOON + 1) == 1
    add(store, [row(2)])
    assert store.usage_requests(UsageQuery())[0].seq > first.seq


def test_requests_are_looked_for_in_all_pages(store: Store) -> None:
    add(store, [row(0, key_id="key-rare")])
    for number in range(1, 40):
        add(store, [row(number)])
    rare = store.usage_requests(UsageQuery(key_id="key-rare"))
    assert [one.request_id for one in rare] == ["r0"]
    assert store.usage_requests(UsageQuery(key_id="key-none")) == []


@pytest.mark.parametrize(
    ("group_by", "sums"),
    [
        (("day",), [("2027-01-15", "", "", 3), ("2027-01-16", "", "", 1)]),
        (("key_id",), [("", "key-1", "", 3), ("", "key-2", "", 1)]),
        (("user", "key_id"), [("", "key-1", "", 2), ("", "key-1", "ann", 1), ("", "key-2", "", 1)]),
        ((), [("", "", "", 4)]),
    ],
)
def test_usage_is_added_up_by_what_is_asked_for(
    store: Store, group_by: tuple[UsageField, ...], sums: list[tuple[str, str, str, int]]
) -> None:
    add(
        store, [row(1), row(2), row(3, user="ann"), row(4, key_id="key-2", at_unix_s=NOON + 86_400)]
    )
    found = store.usage_days(UsageQuery(group_by=group_by))
    assert [(day.day, day.key_id, day.user, day.requests) for day in found] == sums
    assert {type(day.completion_tokens) for day in found} == {int}
    assert store.usage_days(UsageQuery(group_by=group_by, key_id="none")) == []


def test_pruning_keeps_the_days(store: Store) -> None:
    add(store, [row(1), row(2)])
    add(store, [row(3, at_unix_s=NOON + 10)])
    assert store.prune(NOON) == 0
    assert store.prune(NOON + 5) == 2
    assert [one.request_id for one in store.usage_requests(UsageQuery())] == ["r3"]
    assert store.usage_days(UsageQuery())[0].requests == 3


def test_what_was_written_together_is_forgotten_together(store: Store) -> None:
    add(store, [row(1), row(2, at_unix_s=NOON + 10)])
    assert store.prune(NOON + 5) == 0
    assert len(store.usage_requests(UsageQuery())) == 2
    assert store.prune(NOON + 11) == 2
    assert store.usage_requests(UsageQuery()) == []


def test_usage_is_written_whole_or_not_at_all(store: Store) -> None:
    broken = row(2, prompt_tokens=2**63)  # a page can hold that, the sum of a day cannot
    with pytest.raises(Exception, match=r"."):
        add(store, [row(1), broken])
    assert store.usage_requests(UsageQuery()) == []
    assert store.usage_days(UsageQuery()) == []
    add(store, [row(1)])
    assert len(store.usage_requests(UsageQuery())) == 1


rows = st.builds(
    row,
    st.integers(0, 5),
    at_unix_s=st.sampled_from([NOON, NOON + 86_400]),
    key_id=st.sampled_from(["k", "l"]),
    user=st.sampled_from(["", "u"]),
    backend=st.sampled_from(["a", "b"]),
    outcome=st.sampled_from(["ok", "client_gone"]),
    prompt_tokens=st.integers(0, 100),
    completion_tokens=st.integers(0, 100),
)


@given(st.lists(st.lists(rows, min_size=1, max_size=6), max_size=4))
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_days_are_the_sums_of_their_requests(store: Store, batches: list[list[UsageRow]]) -> None:
    before = {day: day for day in store.usage_days(UsageQuery())}
    sent = [one for batch in batches for one in batch]
    prompt = sum(day.prompt_tokens for day in before)
    failures = sum(day.failures for day in before)
    requests = sum(day.requests for day in before)
    for batch in batches:
        add(store, batch)
    after = store.usage_days(UsageQuery())
    assert sum(day.requests for day in after) - requests == len(sent)
    assert sum(day.prompt_tokens for day in after) - prompt == sum(
        one.prompt_tokens for one in sent
    )
    assert sum(day.failures for day in after) - failures == sum(one.outcome != "ok" for one in sent)
