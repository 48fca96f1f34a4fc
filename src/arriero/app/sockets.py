"""Sockets that systemd keeps for us, so that a restart drops no connection (sd_listen_fds(3)).

The listener is systemd's own (`litellm.socket`): while the old process drains and the new one
starts, clients that connect wait in its queue.

A client that keeps its connection open between requests would still be hit: it may send just when
the process closes, and HTTP/1.1 has no word for "do not send any more" to one that waits (RFC 9112,
9.5). So a process that ends does not close such connections. It gives them to systemd
(`FileDescriptorStoreMax=`), the next process finds them among its own sockets, and what a client
sent meanwhile waits in the kernel.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, MutableMapping

import msgspec

from arriero.app.notify import notify

FIRST_FD = 3
FDS_MAX = 65_536
CLIENT = "client"


class SocketsUnusable(Exception):
    """What was handed over is not what can be served."""


class Sockets(msgspec.Struct):
    """What was handed over."""

    listener: socket.socket | None = None
    clients: list[socket.socket] = []

    def close(self) -> None:
        """Close what was not taken."""
        for one in self.clients:
            one.close()
        if self.listener is not None:
            self.listener.close()


def inherited(environ: MutableMapping[str, str]) -> Sockets:
    """Take the sockets that `LISTEN_FDS` tells of, and the variables with them.

    The variables go, because a child process that kept them would take the sockets for its own.
    Raises SocketsUnusable unless there is exactly one listening stream socket, or none at all.
    """
    pid = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()):
        return Sockets()  # meant for another process, which passed its environment on
    if not count.isascii() or not count.isdigit() or int(count) > FDS_MAX:
        raise SocketsUnusable(f"LISTEN_FDS is {count!r}, which is no number of sockets")
    sockets = Sockets()
    try:
        for at in range(int(count)):
            _take(sockets, FIRST_FD + at, names[at] if at < len(names) else "")
    except SocketsUnusable:
        sockets.close()
        raise
    return sockets


def _take(sockets: Sockets, fd: int, name: str) -> None:
    try:
        os.set_inheritable(fd, False)  # noqa: FBT003 - the standard library's signature
        one = socket.socket(fileno=fd)
        listens = one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise SocketsUnusable(f"file {fd} ({name}) is no socket: {error.strerror}") from error
    one.settimeout(0)
    if name == CLIENT:
        sockets.clients.append(one)
    elif not listens or one.type != socket.SOCK_STREAM:
        one.close()
        raise SocketsUnusable(f"file {fd} ({name}) is no listening stream socket")
    elif sockets.listener is not None:
        one.close()
        raise SocketsUnusable("more than one listening socket was handed over")
    else:
        sockets.listener = one


async def adopt(sockets: Sockets, factory: Callable[[], asyncio.Protocol], *, plain: bool) -> int:
    """Go on serving the clients of the process before; return how many there are.

    They speak without TLS, so when the gateway now wants it (`plain` is False) they are closed.
    """
    clients, sockets.clients = sockets.clients, []
    if not clients:
        return 0
    # Or their connections would stay open when we close them, by systemd's copies.
    notify(f"FDSTOREREMOVE=1\nFDNAME={CLIENT}")
    adopted = 0
    for client in clients:
        with contextlib.suppress(OSError):  # a client that left meanwhile
            if plain:
                await asyncio.get_running_loop().connect_accepted_socket(factory, client)
                adopted += 1
                continue
        client.close()
    return adopted


def hand_over(fd: int) -> bool:
    """Give a client's connection to the next process, by way of systemd; say whether it went."""
    return notify(f"FDSTORE=1\nFDNAME={CLIENT}", [fd])
