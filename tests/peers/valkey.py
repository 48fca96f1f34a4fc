"""A Valkey or Redis server for tests, on a socket in a folder of its own."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import redis

START_TIMEOUT_S = 10


class Valkey:
    """A server that can be killed and started again; it keeps nothing."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._folder = Path(tempfile.mkdtemp(prefix="arriero-valkey-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = self._folder / "socket"
        self.url = f"unix://{self.socket}"

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = ["--port", "0", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [self._program, *options, "--unixsocket", self.socket, "--dir", self._folder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        with self.client(retrying=True) as client:
            client.ping()

    def client(self, *, retrying: bool = False) -> redis.Redis:
        """Return a connection; a patient one waits for the server's start."""
        retry = redis.retry.Retry(redis.backoff.ConstantBackoff(0.02), START_TIMEOUT_S * 50)
        none = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        return redis.Redis(unix_socket_path=str(self.socket), retry=retry if retrying else none)

    def kill(self) -> None:
        """End it without a word."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self.socket.unlink(missing_ok=True)

    def stop(self) -> None:
        """End it, and remove what it wrote."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def start() -> Valkey | str:
    """Return a running server, or why there can be none."""
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        return "no Valkey or Redis (hint: apt-get install redis-server)"
    server = Valkey(program)
    server.start()
    return server
