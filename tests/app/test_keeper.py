"""Keys in memory follow the store, usage is written to it, and neither needs it to serve."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from tests.store.postgresql import Postgresql, start

from arriero.app import keeper as module
from arriero.app.clock import SystemClock
from arriero.app.keeper import Keeper, open_keeper, usage_rows
from arriero.config.settings import Limits, Secret, Store
from arriero.core.keys import Key
from arriero.core.limits import Limiter
from arriero.core.record import Record
from arriero.store.opening import open_store
from arriero.store.port import AuditEntry, KeyConflict, StoreUnavailable, UsageQuery

ENTRY = AuditEntry(0.0, "master", "create", "key-1")
SECRET = "sk-0123456789abcdef"


NOW_S = SystemClock().unix_s()


def record(number: int = 0, at_unix_s: float = NOW_S) -> Record:
    return Record(
        request_id=f"r{number}", started_unix_s=at_unix_s, alias="m", outcome="ok", status=200
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its schema, which takes half a second to make."""
    path = tmp_path_factory.mktemp("store") / "arriero.db"
    open_store(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def url(tmp_path: Path, prepared: Path) -> str:
    """An empty store."""
    shutil.copy(prepared, tmp_path / "arriero.db")
    return f"sqlite:///{tmp_path}/arriero.db"


async def opened(url: str) -> Keeper:
    keeper = await open_keeper(Store(url=Secret(url)), None, SystemClock())
    assert keeper is not None
    return keeper


@pytest.fixture
async def keeper(url: str) -> AsyncIterator[Keeper]:
    one = await opened(url)
    yield one
    await one.close()


def key_for(keeper: Keeper, alias: str = "", owner: str = "") -> Key:
    return Key(id="key-1", digest=keeper.ring.digest(SECRET), alias=alias, owner=owner)


async def following(keeper: Keeper, until: Callable[[], bool]) -> None:
    """Let the keeper run until something is so."""
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        task = group.create_task(keeper.run(lambda: 90))
        while not until():  # noqa: ASYNC110 - polled
            await asyncio.sleep(0.01)
        task.cancel()


async def test_without_a_place_there_is_no_store(tmp_path: Path) -> None:
    assert await open_keeper(Store(), None, SystemClock()) is None
    keeper = await open_keeper(Store(), tmp_path / "state", SystemClock())
    assert keeper is not None
    assert (tmp_path / "state" / "arriero.db").exists()
    await keeper.close()


async def test_a_key_is_good_at_once_and_after_a_restart(keeper: Keeper, url: str) -> None:
    key = key_for(keeper)
    await keeper.put(key, ENTRY)
    assert keeper.ring.find(SECRET.encode()) is key
    again = await opened(url)
    assert again.ring.find(SECRET.encode()) == key, "the pepper is the installation's"
    await again.close()


async def test_a_refused_key_is_not_good(keeper: Keeper) -> None:
    await keeper.put(key_for(keeper, alias="same"), ENTRY)
    other = Key(id="key-2", digest=keeper.ring.digest("sk-another-0123456789"), alias="same")
    with pytest.raises(KeyConflict):
        await keeper.put(other, ENTRY)
    assert keeper.ring.get("key-2") is None


async def test_what_another_gateway_changes_is_noticed(
    keeper: Keeper, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 0.01)
    other = await opened(url)
    await other.put(key_for(other), ENTRY)
    await following(keeper, lambda: keeper.ring.find(SECRET.encode()) is not None)
    await other.remove("key-1", ENTRY)
    await following(keeper, lambda: keeper.ring.find(SECRET.encode()) is None)
    await other.close()


async def test_usage_is_written_at_the_latest_at_the_end(url: str) -> None:
    keeper = await opened(url)
    keeper.take([record(n) for n in range(3)])
    keeper.take([record(n) for n in range(3, 5000)])
    await keeper.close()
    again = await opened(url)
    found = await again.ask(lambda store: store.usage_requests(UsageQuery()))
    assert len({one.request_id for one in found}) == 5000
    await again.close()


async def test_usage_that_is_being_written_at_the_end_is_written_once(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 0.01)
    keeper = await opened(url)
    other = sqlite3.connect(tmp_path / "arriero.db", isolation_level=None)
    other.execute("begin immediate")  # the keeper's own transaction waits for the end of this one
    keeper.take([record(n) for n in range(3)])
    task = asyncio.create_task(keeper.run(lambda: 30))
    while keeper._pending.requests:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.001)
    keeper.take([record(3)])
    task.cancel()
    await asyncio.sleep(0.05)
    other.execute("rollback")
    other.close()
    with pytest.raises(asyncio.CancelledError):
        await task
    await keeper.close()
    again = await opened(url)
    found = await again.ask(lambda store: store.usage_requests(UsageQuery()))
    days = await again.ask(lambda store: store.usage_days(UsageQuery()))
    assert [one.request_id for one in found] == ["r3", "r2", "r1", "r0"]
    assert sum(day.requests for day in days) == 4
    await again.close()


async def test_questions_see_all_usage_until_now(keeper: Keeper) -> None:
    keeper.take([record(1)])
    (day,) = await keeper.ask(lambda store: store.usage_days(UsageQuery()))
    assert day.requests == 1


async def test_budgets_outlive_a_restart(keeper: Keeper, url: str) -> None:
    used = [
        Record(principal="key-1", alias=alias, prompt_tokens=10, completion_tokens=5, status=200)
        for alias in ("m", "m", "other")
    ]
    for one in used:
        one.started_unix_s = NOW_S
    keeper.take(used)
    await keeper.ask(lambda store: store.usage_days(UsageQuery()))
    budget = Limits(tokens_per_day=1)
    key = msgspec.structs.replace(key_for(keeper), limits=budget, per_model={"m": budget})
    await keeper.put(key, ENTRY)
    again = await opened(url)
    limiter = Limiter()
    await again.restore(limiter)
    found = limiter.subjects(key, "m", Limits(tokens_per_day=1))
    assert [one.meter.of_day.known for one in found] == [45, 30, 30]
    assert [one.meter.of_month.known for one in found] == [45, 30, 30]
    await again.close()


async def test_only_requests_to_models_are_usage() -> None:
    assert usage_rows([Record(path="/v1/models"), record(1)])[0].request_id == "r1"
    assert len(usage_rows([Record(path="/v1/models"), record(1)])) == 1


async def test_usage_beyond_the_limit_is_dropped_and_counted(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PENDING_MAX", 4)
    for number in range(3):
        keeper.take([record(2 * number), record(2 * number + 1)])
    assert keeper.dropped == 2


async def test_old_requests_are_forgotten(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 0.01)
    keeper.take([record(1, at_unix_s=1.0)])
    await following(keeper, lambda: keeper._pruned_s > 0)
    found = await keeper.ask(lambda store: store.usage_requests(UsageQuery()))
    days = await keeper.ask(lambda store: store.usage_days(UsageQuery()))
    assert (found, len(days)) == ([], 1)


async def test_a_store_that_goes_away_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 0.01)
    server = start()
    if not isinstance(server, Postgresql):
        pytest.skip(server)
    try:
        keeper = await opened(server.new_database())
        await keeper.put(key_for(keeper), ENTRY)
        server.halt()
        keeper.take([record(1)])
        await following(keeper, lambda: not keeper.is_up)
        assert keeper.ring.find(SECRET.encode()) is not None
        with pytest.raises(StoreUnavailable):
            await keeper.put(key_for(keeper, owner="x"), ENTRY)
        assert keeper.ring.get("key-1") == key_for(keeper), "what was not written is not so"
        keeper.take([record(2)])
        server.resume()
        await following(keeper, lambda: keeper.is_up)
        found = await keeper.ask(lambda store: store.usage_requests(UsageQuery()))
        assert {one.request_id for one in found} == {"r1", "r2"}
        await keeper.close()
    finally:
        server.stop()
