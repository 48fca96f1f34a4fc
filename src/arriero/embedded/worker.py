"""One thread that works, for an event loop that must stay awake.

numpy lets go of the interpreter's lock inside its matrix products, so the loop runs while the
thread computes. Jobs are done one at a time in the order they came: this is the model's one slot,
and its queue.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self, TypeVar

QUEUE_MAX: Final = 512  # Ollama's OLLAMA_MAX_QUEUE

ItemT = TypeVar("ItemT")
Cancelled = Callable[[], bool]
Job = Callable[[Cancelled], Iterator[ItemT]]


class Busy(Exception):
    """More jobs wait than the queue may hold."""


class Worker:
    """Runs jobs in its thread. Use it as a context manager; leaving cancels what still runs."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._jobs: set[threading.Event] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for cancelled in self._jobs:
            cancelled.set()
        self._executor.shutdown()

    async def stream(self, job: Job[ItemT]) -> AsyncGenerator[ItemT]:
        """Yield what `job` yields in the thread, and raise what it raises.

        Close the iterator (`contextlib.aclosing`) to cancel the job; it sees that between two
        tokens, and the next job starts when it has really stopped. Raises Busy.
        """
        if len(self._jobs) >= QUEUE_MAX:
            raise Busy
        cancelled = threading.Event()
        self._jobs.add(cancelled)
        loop = asyncio.get_running_loop()
        items: asyncio.Queue[ItemT | None] = asyncio.Queue()

        def tell(item: ItemT | None) -> None:
            loop.call_soon_threadsafe(items.put_nowait, item)

        def run() -> None:
            try:
                for item in () if cancelled.is_set() else job(cancelled.is_set):
                    tell(item)
            finally:
                loop.call_soon_threadsafe(self._jobs.discard, cancelled)
                tell(None)

        future = loop.run_in_executor(self._executor, run)
        try:
            while (item := await items.get()) is not None:
                yield item
            await future
        finally:
            cancelled.set()
