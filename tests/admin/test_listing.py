"""Which keys a list holds, in which order; and its pages over HTTP."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.admin.conftest import Api

from arriero.admin.listing import ListQuery, select
from arriero.core.keys import Key

NOW_S = 1000.0
KEYS = [
    Key(id="key-a", digest=b"a", alias="Anna's app", owner="ann", created_unix_s=1.0),
    Key(id="key-b", digest=b"b", alias="bob", owner="bob", created_unix_s=3.0, blocked=True),
    Key(id="key-c", digest=b"c", owner="ann", created_unix_s=2.0, expires_unix_s=999.0),
    Key(id="key-d", digest=b"d", alias="bobby", created_unix_s=2.0, expires_unix_s=2000.0,
        labels={"team_id": "t", "project_id": "p"}),
    Key(id="key-e", digest=b"e", alias="e", blocked=True, expires_unix_s=1.0,
        labels={"team_id": "other"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (ListQuery(), "bdcae"),
        (ListQuery(sort_order="asc"), "eacdb"),
        (ListQuery(sort_by="key_alias", sort_order="asc"), "cabde"),
        (ListQuery(sort_by="expires", sort_order="asc"), "ecdab"),
        (ListQuery(sort_by="spend"), "edcba"),
        (ListQuery(user_id="ann"), "ca"),
        (ListQuery(user_id="AN"), ""),
        (ListQuery(user_id="AN", substring_matching=True), "ca"),
        (ListQuery(key_alias="bob"), "b"),
        (ListQuery(key_alias="BOB", substring_matching=True), "bd"),
        (ListQuery(search="bob"), "bd"),
        (ListQuery(search="key-c"), "c"),
        (ListQuery(key_hash="key-d"), "d"),
        (ListQuery(team_id="t"), "d"),
        (ListQuery(team_id="t", project_id="q"), ""),
        (ListQuery(status="active"), "da"),
        (ListQuery(status="expired"), "c"),
        (ListQuery(status="revoked"), "be"),
        (ListQuery(expires="expired"), "ce"),
        (ListQuery(expires="active"), "bda"),
    ],
)
def test_a_list_holds_what_is_asked_for(query: ListQuery, found: str) -> None:
    assert "".join(key.id[-1] for key in select(KEYS, query, NOW_S)) == found


@given(
    st.lists(
        st.builds(
            Key,
            id=st.uuids().map(str),
            digest=st.just(b""),
            blocked=st.booleans(),
            expires_unix_s=st.sampled_from([0.0, 1.0, NOW_S, 5000.0]),
        ),
        max_size=12,
        unique_by=lambda key: key.id,
    )
)
def test_every_key_has_one_status(keys: list[Key]) -> None:
    parts = [
        select(keys, ListQuery(status=status), NOW_S) for status in ("active", "expired", "revoked")
    ]
    assert sorted(key.id for part in parts for key in part) == sorted(key.id for key in keys)


async def test_pages(api: Api) -> None:
    for number in range(7):
        await api.make(key_alias=f"k{number}")
    found = await api.ask("GET", "/key/list?size=3&page=3&sort_by=key_alias&sort_order=asc")
    assert (found["total_count"], found["current_page"], found["total_pages"]) == (7, 3, 3)
    (token,) = found["keys"]
    (full,) = (await api.ask("GET", f"/key/list?key_hash={token}&return_full_object=true"))["keys"]
    assert (full["token"], full["key_alias"]) == (token, "k6")
    assert (await api.ask("GET", "/key/list?page=9"))["keys"] == []
    assert (await api.ask("GET", "/key/list?team_id=&user_id="))["total_count"] == 7
    assert (await api.refused(400, "GET", "/key/list?status=deleted"))["param"] == "status"
    assert (await api.refused(400, "GET", "/key/list?status=lost"))["param"] == "status"
