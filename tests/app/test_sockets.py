"""Sockets handed over by a supervisor: real ones, at real file numbers."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from tests.server.running import until

from arriero.app import sockets
from arriero.app.sockets import Sockets, SocketsUnusable, adopt, inherited

Handed = dict[str, str]


@pytest.fixture
def descriptors(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Give a list of file numbers; they are at FIRST_FD and after it as `handed` puts them."""
    numbers: list[int] = []
    yield numbers
    for number in numbers:
        try:
            os.close(number)
        except OSError:
            continue  # taken, and closed by the test


def handed(
    monkeypatch: pytest.MonkeyPatch, descriptors: list[int], **by_name: socket.socket
) -> Handed:
    """Put copies of sockets where a supervisor would, and return its variables."""
    first = 700
    monkeypatch.setattr(sockets, "FIRST_FD", first)
    for at, one in enumerate(by_name.values()):
        os.dup2(one.fileno(), first + at, inheritable=True)
        descriptors.append(first + at)
    return {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": str(len(by_name)),
        "LISTEN_FDNAMES": ":".join(name.partition("_")[0] for name in by_name),
        "HOME": "/nowhere",
    }


@pytest.mark.parametrize("variables", [{}, {"LISTEN_FDS": "1", "LISTEN_PID": "1"}])
def test_nothing_was_handed_over_to_this_process(variables: Handed) -> None:
    assert inherited(variables) == Sockets()
    assert variables == {}


def test_a_listener_and_clients_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, descriptors: list[int]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
        with near, far:
            variables = handed(monkeypatch, descriptors, web=listener, client_1=far)
            found = inherited(variables)
            assert found.listener is not None
            assert found.listener.getsockname() == listener.getsockname()
            assert [one.getpeername() for one in found.clients] == [near.getsockname()]
            assert not any(os.get_inheritable(number) for number in descriptors)
            found.close()
    assert variables == {"HOME": "/nowhere"}


def test_more_than_one_listener_is_refused(
    monkeypatch: pytest.MonkeyPatch, descriptors: list[int]
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
        pytest.raises(SocketsUnusable, match="more than one listening socket"),
    ):
        inherited(handed(monkeypatch, descriptors, web=one, ops=two))


def test_a_datagram_socket_is_refused(
    monkeypatch: pytest.MonkeyPatch, descriptors: list[int]
) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        pytest.raises(SocketsUnusable, match=r"\(dns\) is no listening stream socket"),
    ):
        inherited(handed(monkeypatch, descriptors, dns=one))


def test_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, descriptors: list[int]
) -> None:
    with socket.socket() as one:
        variables = handed(monkeypatch, descriptors, web=one)
    with (tmp_path / "file").open("w") as file:
        os.dup2(file.fileno(), descriptors[0])
    with pytest.raises(SocketsUnusable, match=r"\(web\) is no socket"):
        inherited(variables)


@pytest.mark.parametrize("count", ["", "-1", "one", "99999999", "\u0663"])
def test_a_count_that_is_none_is_refused(count: str) -> None:
    with pytest.raises(SocketsUnusable, match="no number of sockets"):
        inherited({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count})


class Greeter(asyncio.Protocol):
    """Says good day to whomever it is given."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it
        transport.write(b"good day")
        transport.close()


@pytest.mark.parametrize(("plain", "said"), [(True, b"good day"), (False, b"")])
async def test_clients_are_taken_over_and_systemd_forgets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, plain: bool, said: bytes
) -> None:
    near, far = socket.socketpair()
    with near, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        far.settimeout(0)
        near.settimeout(0)
        found = Sockets(clients=[far])
        assert await adopt(found, Greeter, plain=plain) == plain
        received = b""
        async with asyncio.timeout(5):
            while data := await asyncio.get_running_loop().sock_recv(near, 100):
                received += data
        assert received == said
        await until(lambda: far.fileno() < 0)
        assert supervisor.recv(100) == b"FDSTOREREMOVE=1\nFDNAME=client"
        assert found.clients == []
