"""Server processes that are kept alive: started, watched, started again, ended with us."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Final

BACKOFF_S: Final = 0.5
BACKOFF_MAX_S: Final = 30.0
STEADY_S: Final = 30.0
TERMINATE_TIMEOUT_S: Final = 5.0
READY: Final = b"ready "
EMBEDDED: Final = (sys.executable, "-m", "arriero.embedded")


class ChildFailed(Exception):
    """A child ended before it was ready for the first time; its stderr has said why."""


class Child:
    """One `python -m arriero.embedded` process, on the same port through all its lives.

    `url` is known and `ready` set once its first life can answer. A child that dies is started
    again after a pause that doubles with each short life: one that cannot live must not eat the
    machine.
    """

    def __init__(
        self, name: str, tell: Callable[[str], None], command: Sequence[str] = EMBEDDED
    ) -> None:
        """Name the child; `tell` gets a line at each death, `command` is what to run."""
        self.name = name
        self._tell = tell
        self.url = ""
        self.ready = asyncio.Event()
        self.lives = 0
        self._command = command
        self._process: asyncio.subprocess.Process | None = None

    def __repr__(self) -> str:
        return f"<Child {self.name} {self.url or 'starting'}, life {self.lives}>"

    @property
    def pid(self) -> int | None:
        """The process id of its present life."""
        return self._process.pid if self._process is not None else None

    async def run(self) -> None:
        """Keep the child alive until cancelled, and end it then. Raises ChildFailed."""
        loop = asyncio.get_running_loop()
        pause_s = BACKOFF_S
        while True:
            began_s = loop.time()
            await self._live()
            if not self.ready.is_set():
                raise ChildFailed(self.name)
            pause_s = BACKOFF_S if loop.time() - began_s > STEADY_S else pause_s
            self._tell(f"{self.name} ended; starting it again in {pause_s:g} s")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, BACKOFF_MAX_S)

    async def _live(self) -> None:
        """Run the process once, from its start to its end.

        It gets a session of its own: Ctrl-C at a terminal goes to the whole foreground group, and
        the gateway wants to finish its requests before its backends end.
        """
        port = self.url.rpartition(":")[2] or "0"
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            *("--port", port, "--parent-pid", str(os.getpid())),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self.lives += 1
        try:
            assert self._process.stdout is not None
            async for line in self._process.stdout:
                if line.startswith(READY):
                    self.url = line.removeprefix(READY).decode().strip()
                    self.ready.set()
            await self._process.wait()
        finally:
            await self._end(self._process)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """End what still runs, by force when asking does not help."""
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(TERMINATE_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
