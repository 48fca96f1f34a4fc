"""The part of systemd that a socket-activated service sees, with real sockets and processes.

It listens, starts `arriero serve` with that socket, keeps the files that the process gives it, and
hands them to the next one: sd_listen_fds(3), `FileDescriptorStoreMax=` of systemd.service(5).
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Self

PATIENCE_S = 30.0
STATE_BYTES_MAX = 4096
FDS_MAX = 253  # of one message: SCM_MAX_FD of the kernel

# Stands between: puts the files at 3, 4, ... and becomes the service, as systemd's child does.
LAUNCHER = """
import os, sys
files = [int(word) for word in sys.argv[1].split(",")]
high = [os.dup2(file, 500 + at) for at, file in enumerate(files)]
for at, file in enumerate(high):
    os.dup2(file, 3 + at, inheritable=True)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "arriero", *sys.argv[2:]])
"""


class Supervisor:
    """Runs one gateway process at a time on one listening socket."""

    def __init__(self, folder: Path, config: Path, *options: str) -> None:
        self._config = config
        self._options = options
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._address = str(folder / "notify")
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(self._address)
        self._kept: list[int] = []
        self.handed_over = 0
        self._ready = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._reader = threading.Thread(target=self._listen)

    def __enter__(self) -> Self:
        self._reader.start()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        code = self.stop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"OVER", self._address)
        self._reader.join()
        self._notify.close()
        self._listener.close()
        self._forget()
        assert code == 0

    def start(self) -> None:
        """Start a process and wait until it is ready."""
        self._ready.clear()
        files = [self._listener.fileno(), *self._kept]
        environ = os.environ | {
            "NOTIFY_SOCKET": self._address,
            "LISTEN_FDS": str(len(files)),
            "LISTEN_FDNAMES": ":".join(["gateway.socket", *["client"] * len(self._kept)]),
        }
        numbers = ",".join(str(file) for file in files)
        command = ["-c", LAUNCHER, numbers, "serve", "--config", str(self._config), *self._options]
        self._process = subprocess.Popen(
            [sys.executable, *command], pass_fds=files, env=environ, stdout=subprocess.DEVNULL
        )
        assert self._ready.wait(PATIENCE_S), "the service did not become ready"

    def stop(self) -> int:
        """Ask the process to end, and wait for it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(PATIENCE_S)

    def restart(self) -> None:
        """Do what `systemctl restart` does."""
        assert self.stop() == 0
        self.start()

    def reload(self) -> None:
        """Do what `systemctl reload` does, and wait for the end of it."""
        assert self._process is not None
        self._ready.clear()
        self._process.send_signal(signal.SIGHUP)
        assert self._ready.wait(PATIENCE_S), "the service did not end its reload"

    def _listen(self) -> None:
        while True:
            data, files, _, _ = socket.recv_fds(self._notify, STATE_BYTES_MAX, FDS_MAX)
            words = data.decode().split("\n")
            if words == ["OVER"]:
                return
            if "FDSTORE=1" in words:
                assert "FDNAME=client" in words
                self._kept += files
                self.handed_over += len(files)
            elif "FDSTOREREMOVE=1" in words:
                self._forget()
            else:  # such as a barrier's, which waits for this
                for file in files:
                    os.close(file)
            if "READY=1" in words:
                self._ready.set()

    def _forget(self) -> None:
        while self._kept:
            os.close(self._kept.pop())
