"""One embedded server as a process: load, listen, say so, serve until SIGTERM or SIGINT."""

import asyncio
import signal
import sys
from pathlib import Path

from arriero.embedded.engine import load_engine
from arriero.embedded.server import OllamaApi
from arriero.embedded.worker import Worker
from arriero.testing.clock import LoopClock
from arriero.testing.http import HttpServer


async def serve(gguf: Path, name: str, host: str, port: int) -> None:
    """Serve the model; print `ready URL` on stdout once requests can be answered."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    clock = LoopClock()
    engine = await asyncio.to_thread(load_engine, gguf, clock.now_s)
    with Worker() as worker:
        api = OllamaApi(name, engine, worker, clock)
        async with HttpServer(api.handle, host, port) as server:
            sys.stdout.write(f"ready {server.url}\n")
            sys.stdout.flush()
            await stop.wait()


def run(gguf: Path, name: str, host: str, port: int) -> None:
    """Run `serve` in an event loop of its own."""
    asyncio.run(serve(gguf, name, host, port))
