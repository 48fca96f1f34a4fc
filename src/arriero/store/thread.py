"""The one thread in which the store works, so that the event loop never waits for a disk."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Self, TypeVar

from arriero.store.opening import open_store
from arriero.store.port import Store

T = TypeVar("T")


class StoreThread:
    """A store and its thread. Calls are done in the order in which they are made."""

    def __init__(self, store: Store, thread: ThreadPoolExecutor) -> None:
        self._store = store
        self._thread = thread

    @classmethod
    async def open(cls, url: str) -> Self:
        """Open the store at `url` in a thread of its own. Raises StoreError."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        with ExitStack() as undo:
            undo.callback(thread.shutdown, wait=False)
            store = await asyncio.get_running_loop().run_in_executor(thread, open_store, url)
            undo.pop_all()
        return cls(store, thread)

    def start(self, ask: Callable[[Store], T]) -> asyncio.Future[T]:
        """Give the store to `ask`; what it returns, or raises, is the future's.

        Once begun it is done to its end, whether or not somebody waits for that.
        """
        return asyncio.get_running_loop().run_in_executor(self._thread, ask, self._store)

    async def call(self, ask: Callable[[Store], T]) -> T:
        """Return what `ask` returns when it is given the store. Raises StoreError."""
        return await self.start(ask)

    async def close(self) -> None:
        """Finish what was asked, and let go of the database."""
        await self.call(lambda store: store.close())
        self._thread.shutdown()
