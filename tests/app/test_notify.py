"""What systemd is told, over real datagram sockets."""

import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from arriero.app.notify import notify


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
