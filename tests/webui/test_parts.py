"""The parts that need no Open WebUI: states, differences, watches, the file of the way back."""

import stat
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.app.client import Exchange
from arriero.app.exposition import read
from arriero.app.smoke.finding import Verdict, outcome
from arriero.app.webui import watch
from arriero.app.webui.api import said, with_real
from arriero.app.webui.changes import difference
from arriero.app.webui.desired import Wanted, canary, promoted
from arriero.app.webui.plans import Asked, chosen
from arriero.app.webui.snapshot import FORMAT, Snapshot, load, save
from arriero.app.webui.state import (
    EVERYBODY,
    Grant,
    Group,
    ModelRecord,
    OpenAI,
    State,
    canonical,
    in_order,
)
from arriero.app.webui.trouble import Trouble

WANTED = Wanted(
    url="http://gw:4000/v1",
    key="sk-secret-0123456789",
    prefix="gw",
    group="canary",
    members=("ann",),
    aliases=("phi3", "llama3"),
    default="llama3",
)
EMPTY = State(openai=OpenAI(), defaults={"DEFAULT_MODELS": None})

names = st.sampled_from(["a", "b", "gw.phi3", "gw.llama3"])
grants = st.lists(
    st.builds(Grant, st.sampled_from(["user", "group"]), names, st.just("read")), max_size=3
).map(tuple)
records = st.builds(ModelRecord, id=names, name=names, grants=grants)
urls = st.lists(st.sampled_from(["http://a/v1", "http://gw:4000/v1/"]), max_size=2, unique=True)
groups = st.none() | st.builds(
    Group,
    id=st.just("g"),
    name=st.just("canary"),
    data=st.sampled_from([None, {}, {"config": None}, {"config": {"share": "members"}}]),
    members=st.lists(names, unique=True).map(tuple),
)
openais = st.builds(
    OpenAI,
    enabled=st.sampled_from([None, True, False]),
    urls=urls.map(tuple),
    keys=st.lists(st.just("sk-old"), max_size=2).map(tuple),
    configs=st.dictionaries(
        st.sampled_from(["0", "1"]),
        st.sampled_from([{}, {"enable": False}, {"prefix_id": "gw", "headers": None}]),
    ),
)
states = st.builds(
    State,
    openai=openais,
    defaults=st.just({"DEFAULT_MODELS": "x"}),
    group=groups,
    models=st.lists(records, max_size=3, unique_by=lambda record: record.id).map(tuple),
)


@given(states)
def test_a_second_canary_finds_nothing_to_change(now: State) -> None:
    then = canary(now, WANTED)
    assert difference(then, canary(then, WANTED)) == []
    assert canonical(then) == canonical(canary(then, WANTED))


@given(states)
def test_a_second_promotion_finds_nothing_to_change(now: State) -> None:
    then = promoted(canary(now, WANTED), "gw.llama3")
    assert difference(then, promoted(then, "gw.llama3")) == []
    assert all(EVERYBODY in record.grants for record in then.models)


@given(states)
def test_a_canary_takes_nothing_away(now: State) -> None:
    then = canary(now, WANTED)
    assert then.openai.urls[: len(now.openai.urls)] == now.openai.urls
    assert then.defaults == now.defaults
    assert then.group is not None
    assert {"ann", *(now.group.members if now.group else ())} == set(then.group.members)
    for record in now.models:
        kept = then.model(record.id)
        assert kept is not None
        assert set(record.grants) <= set(kept.grants)


@given(states)
def test_no_key_stands_in_the_words_of_a_change(now: State) -> None:
    there = canary(now, WANTED)
    for changes in (difference(now, there), difference(there, now, backwards=True)):
        assert not any("sk-" in change.words for change in changes)


@given(states)
def test_nobody_finds_a_model_chosen_that_is_not_there(now: State) -> None:
    there = promoted(canary(now, WANTED), "gw.llama3")
    forwards = [change.path for change in difference(now, there)]
    backwards = [change.path for change in difference(there, now, backwards=True)]
    default, connection = "/api/v1/configs/models", "/openai/config/update"
    assert forwards[-1] == default
    assert connection not in forwards[1:]
    assert backwards.index(default) < backwards.index(connection)


@given(states)
def test_states_in_another_order_are_equal(now: State) -> None:
    turned = msgspec.structs.replace(
        now,
        models=tuple(
            msgspec.structs.replace(record, grants=record.grants[::-1])
            for record in now.models[::-1]
        ),
    )
    assert canonical(now) == canonical(turned)
    assert in_order(now) == in_order(turned)


def test_a_connection_that_is_there_keeps_its_place_and_its_prefix() -> None:
    config = {"1": {"prefix_id": "old", "tags": ["x"], "headers": {"X-Own": "1"}}}
    openai = OpenAI(
        enabled=True, urls=("http://a/v1", "http://gw:4000/v1/"), keys=("k", "old"), configs=config
    )
    then = canary(msgspec.structs.replace(EMPTY, openai=openai), WANTED)
    assert then.openai.urls == openai.urls
    assert then.openai.keys == ("k", WANTED.key)
    assert then.openai.configs["1"]["tags"] == ["x"]
    assert then.openai.configs["1"]["headers"]["X-Own"] == "1"
    assert [record.id for record in then.models] == ["old.llama3", "old.phi3"]


def test_what_is_to_be_made_is_replaced_by_what_was_made() -> None:
    body = {"a": ["new:key", {"b": "new:group"}], "c": 1, "d": "new:keys"}
    real = {"new:key": "sk-1", "new:group": "g1"}
    assert with_real(body, real) == {"a": ["sk-1", {"b": "g1"}], "c": 1, "d": "new:keys"}


def test_which_aliases_are_offered() -> None:
    listed = ("phi3", "vectors", "llama3")
    assert chosen(listed, {"vectors"}, Asked(key="k")) == ("phi3", "llama3")
    assert chosen(listed, set(), Asked(key="k", aliases=("phi3",), default="llama3")) == (
        "phi3",
        "llama3",
    )
    with pytest.raises(Trouble, match="no alias for chats"):
        chosen(("vectors",), {"vectors"}, Asked(key="k"))
    with pytest.raises(Trouble, match="no alias phi"):
        chosen((), set(), Asked(key="k", aliases=("phi",)))


def exchange(status: int, body: bytes, error: str | None = None) -> Exchange:
    return Exchange(
        method="GET", path="/", sent_headers={}, status=status, body=body, error=error, took_s=0.5
    )


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (exchange(0, b"", "connection refused"), "connection refused"),
        (exchange(400, b'{"detail": "Model not found"}'), "HTTP 400: Model not found"),
        (exchange(401, b'{"error": {"message": "no key"}}'), "HTTP 401: no key"),
        (exchange(422, b'{"detail": [{"loc": []}]}'), "HTTP 422"),
        (exchange(502, b"<html>"), "HTTP 502"),
    ],
)
def test_failures_are_told_in_the_servers_words(answer: Exchange, words: str) -> None:
    assert said(answer) == words


LIMITS = watch.Limits(latency_max_s=2.0, errors_max=0.1)


@pytest.mark.parametrize(
    ("chats", "verdicts"),
    [
        ([watch.Chat(1.0)] * 10, [Verdict.PASS, Verdict.PASS]),
        ([watch.Chat(1.0)] * 9 + [watch.Chat(0.1, "HTTP 500")], [Verdict.PASS, Verdict.PASS]),
        ([watch.Chat(1.0)] * 8 + [watch.Chat(0.1, "x")] * 2, [Verdict.FAIL, Verdict.PASS]),
        ([watch.Chat(1.0)] * 19 + [watch.Chat(9.0)], [Verdict.PASS, Verdict.PASS]),
        ([watch.Chat(1.0)] * 18 + [watch.Chat(9.0)] * 2, [Verdict.PASS, Verdict.FAIL]),
        ([watch.Chat(0.1, "x")], [Verdict.FAIL]),
        ([], [Verdict.UNKNOWN]),
    ],
)
def test_the_limits_of_a_watch(chats: list[watch.Chat], verdicts: list[Verdict]) -> None:
    found = watch.chats(chats, LIMITS)
    assert [finding.verdict for finding in found] == verdicts
    assert all(finding.hint for finding in found if finding.verdict is Verdict.FAIL)


def page(good: int, bad: int, slow: int) -> str:
    total = good + bad
    return f"""\
arriero_build_info{{version="0"}} 1
arriero_requests_total{{alias="a",outcome="ok"}} {good}
arriero_requests_total{{alias="a",outcome="backend_error"}} {bad}
arriero_time_to_first_token_seconds_bucket{{alias="a",le="1.0"}} {total - slow}
arriero_time_to_first_token_seconds_bucket{{alias="a",le="+Inf"}} {total}
"""


@pytest.mark.parametrize(
    ("after", "verdicts"),
    [
        (page(110, 1, 0), [Verdict.PASS, Verdict.PASS]),
        (page(101, 9, 0), [Verdict.FAIL, Verdict.PASS]),
        (page(110, 1, 9), [Verdict.PASS, Verdict.FAIL]),
        (page(100, 1, 0), [Verdict.UNKNOWN]),
        ("up 1\n", [Verdict.UNMEASURED]),
        (page(9, 1, 0), [Verdict.PASS, Verdict.PASS]),  # It began anew: what it has is new.
    ],
)
def test_the_gateways_own_counters(after: str, verdicts: list[Verdict]) -> None:
    found = watch.gateway(read(page(100, 1, 0)), read(after), LIMITS)
    assert [finding.verdict for finding in found] == verdicts
    assert outcome(found).value in (0, 1, 3)


def test_a_chat_without_an_answer() -> None:
    assert watch.chat(exchange(200, b'{"choices": []}')).wrong == "an answer without a choice"
    assert "no chat completion" in (watch.chat(exchange(200, b"{}")).wrong or "")
    assert watch.chat(exchange(200, b'{"choices": [{}]}')) == watch.Chat(0.5)


SNAPSHOT = Snapshot(
    format=FORMAT,
    webui="http://w",
    taken_unix_s=1.0,
    group="canary",
    prefix="gw",
    gateway="http://gw:4000/v1",
    before=EMPTY,
    after=EMPTY,
    digests={"a": "1"},
)


@given(states)
def test_what_is_kept_comes_back_as_it_was(state: State) -> None:
    kept = msgspec.structs.replace(SNAPSHOT, before=state)
    again = msgspec.json.decode(msgspec.json.encode(kept), type=Snapshot)
    assert canonical(again.before) == canonical(state)


def test_the_file_of_the_way_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.json"
    assert load(path) is None
    save(path, SNAPSHOT)
    assert load(path) == SNAPSHOT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.write_text("{}")
    with pytest.raises(Trouble, match="is no snapshot"):
        load(path)
    with pytest.raises(Trouble, match="cannot write the snapshot"):
        save(path / "below", SNAPSHOT)
    assert [entry.name for entry in path.parent.iterdir()] == ["state.json"]
