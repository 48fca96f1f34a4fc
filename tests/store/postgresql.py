"""A PostgreSQL server for tests: Debian's, in a folder of its own, reached by a socket there."""

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import psycopg

START_TIMEOUT_S = 60


class Postgresql:
    """A running server."""

    def __init__(self, programs: Path, folder: Path, user: str) -> None:
        self._programs = programs
        self._folder = folder
        self._user = user
        self._databases = 0

    def new_database(self, template: str = "template1") -> str:
        """Make a database like another one and return its URL."""
        self._databases += 1
        name = f"test{self._databases}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f"create database {name} template {template}".encode())
        return self._url(name)

    @staticmethod
    def name_of(url: str) -> str:
        """Return the name of the database at a URL."""
        return url.removeprefix("postgresql:///").partition("?")[0]

    def _url(self, name: str) -> str:
        return f"postgresql:///{name}?host={self._folder}&user=postgres"

    def restart(self) -> None:
        """Stop at once, as a crash does, and start again."""
        self._ctl("restart", "-m", "immediate")

    def stop(self) -> None:
        """Stop at once, and remove what was written."""
        self._ctl("stop", "-m", "immediate")
        shutil.rmtree(self._folder, ignore_errors=True)

    def halt(self) -> None:
        """Stop, to be started again."""
        self._ctl("stop", "-m", "immediate")

    def resume(self) -> None:
        """Start again."""
        self._ctl("start")

    def _ctl(self, action: str, *more: str) -> None:
        options = f"-k {self._folder} -c listen_addresses='' -c fsync=off"
        self.run("pg_ctl", "-D", "data", "-l", "log", "-w", "-o", options, action, *more)

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs as a user that it accepts."""
        subprocess.run(
            [self._programs / program, *arguments],
            cwd=self._folder,
            user=self._user if os.geteuid() == 0 else None,
            env={**os.environ, "LC_ALL": "C.UTF-8", "HOME": str(self._folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=START_TIMEOUT_S,
        )


def start() -> Postgresql | str:
    """Return a running server, or why there can be none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        return "no PostgreSQL (hint: apt-get install postgresql)"
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    # Not in pytest's folder: the server's user may not enter it, and a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="arriero-pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, user)
    server = Postgresql(found[-1].parent, folder, user)
    server.run("initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
    server.resume()
    return server
