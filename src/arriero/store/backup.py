"""Copy a store while it is in use: one consistent moment of it, as one file."""

import os
import sqlite3
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from arriero.store.opening import sqlite_path
from arriero.store.port import StoreError, StoreUnavailable

PG_DUMP_TIMEOUT_S: Final = 3600.0


def backup(url: str, file: Path) -> None:
    """Write the store at `url` into a new file, which only its owner can read. Raises StoreError.

    A SQLite file can be put in the place of `arriero.db`; of PostgreSQL it is a dump in its custom
    format, for `pg_restore`.
    """
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise StoreError(f"{file} is there already", "give another name") from None
    except OSError as error:
        raise StoreError(f"{file}: {error.strerror}", f"ls -ld {file.parent}") from error
    with ExitStack() as unless_whole:
        unless_whole.callback(file.unlink, missing_ok=True)
        if urlsplit(url).scheme == "sqlite":
            _copy(sqlite_path(url), file)
        else:
            _dump(url, file)
        unless_whole.pop_all()


def _copy(path: Path, file: Path) -> None:
    try:
        source = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        target = sqlite3.connect(file)
        try:
            # In one go: in write-ahead mode a reader holds up no writer, and copying in steps
            # begins again after each write of another process.
            source.backup(target)
            target.execute("pragma journal_mode = delete")  # one file, without a journal beside it
            ((found,),) = target.execute("pragma integrity_check").fetchall()
        finally:
            target.close()
            source.close()
    except sqlite3.Error as error:
        raise StoreUnavailable(f"{path}: {error}", f"ls -l {path.parent}") from error
    if found != "ok":
        raise StoreError(f"the copy is damaged: {found}", "is the disk of the store good?")


def _dump(url: str, file: Path) -> None:
    """Have PostgreSQL's own program do it; the password goes by the environment, not by `ps`."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    # Not `urlunsplit`: it leaves out the two slashes before an empty host.
    plain = f"postgresql://{name}{'@' if name else ''}{host}{parts.path}"
    plain += f"?{parts.query}" if parts.query else ""
    environment = os.environ | ({"PGPASSWORD": unquote(password)} if password else {})
    command = ["pg_dump", "--format=custom", f"--file={file}", f"--dbname={plain}"]
    try:
        done = subprocess.run(  # noqa: S603 - a URL of the administrator's own, and no shell
            command,
            env=environment,
            capture_output=True,
            timeout=PG_DUMP_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        raise StoreError("pg_dump is not installed here", "apt install postgresql-client") from None
    except subprocess.TimeoutExpired as error:
        raise StoreUnavailable("pg_dump took longer than an hour", "is it locked?") from error
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise StoreUnavailable(words[-1], "psql with the same store.url")
