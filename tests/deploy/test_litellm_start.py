"""LiteLLM's helper, with stand-ins for LiteLLM and uvicorn: systemd's socket, the key, the word."""

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.deploy.rendering import ROLE

START = ROLE / "files/litellm-start"
KEY = "sk-the-credential-0123456789"
TIMEOUT_S = 30.0
# Answers the one request that the helper makes once it serves: is there a model in the list?
UVICORN = """
import json, os, pathlib

class Config:
    def __init__(self, app, **settings):
        self.app, self.settings = app, settings

class Server:
    started = True
    def __init__(self, config):
        self.config = config
    def run(self, sockets):
        (listener,) = sockets
        key = os.environ["LITELLM_MASTER_KEY"]
        told = {"app": self.config.app, "port": self.config.settings["port"], "key": key}
        told["address"] = listener.getsockname()
        pathlib.Path(os.environ["TOLD"]).write_text(json.dumps(told))
        for body in (b'{"data": []}', b'{"data": [{"id": "a"}]}'):
            connection, _ = listener.accept()
            with connection:
                request = connection.recv(65536)
                assert b"GET /v1/models" in request and key.encode() in request, request
                head = b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body)
                connection.sendall(head + body)
        connection, _ = listener.accept()  # the test's own: it may end now
        connection.close()

def run(*_, **__):
    raise AssertionError("it would bind an address itself")
"""
LITELLM = """
import sys, uvicorn
assert sys.argv[1:] == ["--port", "4000"], sys.argv
uvicorn.run("litellm:app", host="0.0.0.0", port=4000)
"""


class Systemd:
    """What systemd gives a service: a socket, connections that were put by, a place for words."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self.listener.getsockname()
        self.client, self.stored = socket.socketpair()
        self.words = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.words.bind(str(folder / "notify"))
        for each in (self.client, self.words):
            each.settimeout(TIMEOUT_S)
        (folder / "uvicorn.py").write_text(UVICORN)
        (folder / "litellm").write_text(LITELLM)
        (folder / "master_key").write_text(f"{KEY}\n")

    def start(self, names: str) -> "subprocess.Popen[str]":
        """Start the helper with the listener and a stored connection, in the order of the names."""
        given = {"gateway": self.listener.fileno(), "stored": self.stored.fileno()}
        # Far from where they go, so that none is written over before it is moved.
        numbers = [fcntl.fcntl(given[name], fcntl.F_DUPFD, 100) for name in names.split(":")]
        moves = " ".join(f"{to}<&{number} {number}<&-" for to, number in enumerate(numbers, 3))
        script = f'exec {moves}; LISTEN_PID=$$ exec "$@"'
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(self.folder),
            "LISTEN_FDS": str(len(numbers)),
            "LISTEN_FDNAMES": names,
            "CREDENTIALS_DIRECTORY": str(self.folder),
            "NOTIFY_SOCKET": str(self.folder / "notify"),
            "LITELLM_HOST": "0.0.0.0",
            "LITELLM_PORT": str(self.address[1]),
            "TOLD": str(self.folder / "told"),
        }
        argv = [sys.executable, str(START), str(self.folder / "litellm"), "--port", "4000"]
        try:
            return subprocess.Popen(
                ["bash", "-c", script, "bash", *argv],
                env=env,
                pass_fds=numbers,
                stderr=subprocess.PIPE,
                text=True,
            )
        finally:
            for number in numbers:
                os.close(number)

    def close(self) -> None:
        for each in (self.listener, self.client, self.stored, self.words):
            each.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(tmp_path)
    yield made
    made.close()


@contextmanager
def ended(helper: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    """Give the helper, and end it with the block, also when that failed."""
    with helper:
        try:
            yield helper
        finally:
            helper.kill()


@pytest.mark.parametrize("names", ["gateway:stored", "stored:gateway"])
def test_litellm_serves_at_the_socket_of_systemd(systemd: Systemd, names: str) -> None:
    with ended(systemd.start(names)) as helper:
        systemd.stored.close()
        assert systemd.words.recv(100) == b"READY=1"
        # A descriptor comes with it, which systemd closes when it has read what came before.
        word, descriptors, _, _ = socket.recv_fds(systemd.words, 100, 1)
        assert word == b"BARRIER=1"
        os.close(*descriptors)
        # Nobody serves a connection that the engine before had put by, so it must be closed.
        assert systemd.client.recv(1) == b""
        socket.create_connection(systemd.address, TIMEOUT_S).close()
        _, said = helper.communicate(timeout=TIMEOUT_S)
    assert helper.returncode == 0, said
    told = (systemd.folder / "told").read_text()
    assert f'"key": "{KEY}"' in told
    assert '"app": "litellm:app"' in told
    assert str(systemd.address[1]) in told


def test_without_a_socket_it_says_so(systemd: Systemd) -> None:
    with ended(systemd.start("stored")) as helper:
        _, said = helper.communicate(timeout=TIMEOUT_S)
    assert helper.returncode == 1
    assert "systemd gave no socket named gateway" in said
