"""The relay that reads nothing passes bytes both ways, also those that come before it is ready."""

import asyncio
import itertools

from benchmarks.floor import Client

PATIENCE_S = 20.0


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each line in capitals; end with the client."""
    while line := await reader.readline():
        writer.write(line.upper())
    writer.close()


async def test_lines_go_there_and_back_and_the_end_goes_too() -> None:
    loop = asyncio.get_running_loop()
    backend = await asyncio.start_server(shout, "127.0.0.1", 0)
    ports = itertools.cycle([backend.sockets[0].getsockname()[1]])
    relay = await loop.create_server(lambda: Client(ports), "127.0.0.1", 0)
    async with asyncio.timeout(PATIENCE_S), backend, relay:
        port = relay.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for line in (b"llama\n", b"alpaca\n"):
            writer.write(line)
            assert await reader.readline() == line.upper()
        backend.close()
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
