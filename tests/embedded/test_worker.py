import asyncio
import threading
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from arriero.embedded.worker import QUEUE_MAX, Busy, Cancelled, Worker


def count_to(limit: int) -> Iterator[int]:
    yield from range(limit)


async def gathered(worker: Worker, limit: int) -> list[int]:
    return [item async for item in worker.stream(lambda _cancelled: count_to(limit))]


async def test_items_come_in_order() -> None:
    with Worker() as worker:
        assert await gathered(worker, 50) == list(range(50))
        assert await gathered(worker, 0) == []


async def test_jobs_are_done_one_at_a_time_in_the_order_they_came() -> None:
    order: list[str] = []

    def job(name: str) -> Iterator[str]:
        order.append(f"{name} begins")
        yield name
        order.append(f"{name} ends")

    async def ask(worker: Worker, name: str) -> None:
        async for _ in worker.stream(lambda _cancelled: job(name)):
            pass

    with Worker() as worker:
        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(ask(worker, name))
    assert order == [f"{name} {what}" for name in "abc" for what in ("begins", "ends")]


async def test_what_a_job_raises_comes_after_what_it_yielded() -> None:
    def failing(_cancelled: Cancelled) -> Iterator[int]:
        yield 1
        raise ArithmeticError("no")

    with Worker() as worker:
        items = worker.stream(failing)
        assert await anext(items) == 1
        with pytest.raises(ArithmeticError, match="no"):
            await anext(items)
        assert await gathered(worker, 2) == [0, 1]


async def test_closing_the_iterator_cancels_the_job_and_frees_the_slot() -> None:
    ended = threading.Event()

    def endless(cancelled: Cancelled) -> Iterator[int]:
        while not cancelled():
            yield 1
        ended.set()

    with Worker() as worker:
        async with aclosing(worker.stream(endless)) as items:
            assert await anext(items) == 1
        assert await gathered(worker, 3) == [0, 1, 2]
        assert ended.is_set()


async def test_a_job_cancelled_while_it_waits_never_begins() -> None:
    release = threading.Event()
    begun: list[str] = []

    def first(_cancelled: Cancelled) -> Iterator[int]:
        release.wait()
        yield 1

    def second(_cancelled: Cancelled) -> Iterator[int]:
        begun.append("second")
        yield 2

    with Worker() as worker:
        ahead, behind = worker.stream(first), worker.stream(second)
        waiting = [asyncio.create_task(anext(ahead)), asyncio.create_task(anext(behind))]
        await asyncio.sleep(0)
        waiting[1].cancel()
        await asyncio.wait([waiting[1]])
        release.set()
        assert await waiting[0] == 1
        await ahead.aclose()
        assert await gathered(worker, 1) == [0]
    assert begun == []


async def test_leaving_the_worker_ends_what_still_runs() -> None:
    def endless(cancelled: Cancelled) -> Iterator[int]:
        while not cancelled():
            yield 1

    with Worker() as worker:
        items = worker.stream(endless)
        assert await anext(items) == 1
    await items.aclose()


async def test_the_queue_is_bounded() -> None:
    release = threading.Event()

    def held(cancelled: Cancelled) -> Iterator[int]:
        release.wait()
        yield 1

    with Worker() as worker:
        streams = [worker.stream(held) for _ in range(QUEUE_MAX + 1)]
        asked = [asyncio.create_task(anext(stream)) for stream in streams[:-1]]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await anext(streams[-1])
        release.set()
        assert await asyncio.gather(*asked) == [1] * QUEUE_MAX
        for stream in streams:
            await stream.aclose()
