"""What systemd is told, over real datagram sockets."""

import asyncio
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from arriero.app.notify import (
    BARRIER_TIMEOUT_MS,
    barrier,
    feed_watchdog,
    notify,
    reloading,
    watchdog_interval_s,
)


@pytest.fixture
def supervisor() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(5.0)
        yield listener


def test_a_path(supervisor: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    notify("READY=1")
    assert supervisor.recv(100) == b"READY=1"


def test_an_abstract_name(supervisor: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"arriero-test-{secrets.token_hex(8)}"
    supervisor.bind(f"\0{name}")
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    notify("STOPPING=1")
    assert supervisor.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("address", ["", "/nobody/listens/here"])
def test_nobody_to_tell_is_no_failure(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")


def test_files_travel_with_the_word(
    supervisor: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    file = tmp_path / "file"
    file.write_text("what is in it")
    with file.open() as opened:
        assert notify("FDSTORE=1", [opened.fileno()])
    state, (fd,), _, _ = socket.recv_fds(supervisor, 100, 1)
    assert state == b"FDSTORE=1"
    with os.fdopen(fd) as again:
        assert again.read() == "what is in it"


def test_a_barrier_waits_until_the_supervisor_lets_go(
    supervisor: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    waiting = threading.Thread(target=barrier)
    waiting.start()
    state, (fd,), _, _ = socket.recv_fds(supervisor, 100, 1)
    assert state == b"BARRIER=1"
    assert waiting.is_alive()
    os.close(fd)
    waiting.join(timeout=BARRIER_TIMEOUT_MS / 2000)
    assert not waiting.is_alive()


def test_a_barrier_without_a_supervisor_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    barrier()


def test_a_reload_tells_its_moment(
    supervisor: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    reloading(12.345678)
    assert supervisor.recv(100) == b"RELOADING=1\nMONOTONIC_USEC=12345678"


@pytest.mark.parametrize(
    ("variables", "interval_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 10.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 10.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "often"}, None),
    ],
)
def test_how_often_the_watchdog_is_fed(
    variables: dict[str, str], interval_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert watchdog_interval_s() == interval_s


async def test_the_watchdog_is_fed_again_and_again(
    supervisor: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor.bind(str(tmp_path / "notify"))
    supervisor.settimeout(0)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    task = asyncio.create_task(feed_watchdog(0.001))
    for _ in range(3):
        async with asyncio.timeout(5):
            assert await asyncio.get_running_loop().sock_recv(supervisor, 100) == b"WATCHDOG=1"
    task.cancel()
