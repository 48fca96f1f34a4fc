"""kill -9 at any moment: what was accepted is there, and the file opens clean."""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from arriero.store.opening import open_store
from arriero.store.port import UsageQuery

# The long form: ARRIERO_CRASHES=200 scripts/test tests/store/test_crash.py
CRASHES = int(os.environ.get("ARRIERO_CRASHES", "40"))
WRITER = """
import sys
from arriero.store.opening import open_store
from tests.store.test_conformance import add, entry, key, row
import msgspec
store = open_store(sys.argv[1])
first = int(sys.argv[2])
for number in range(first, first + 100000):
    one = msgspec.structs.replace(key(1), id=f"key-{number}", digest=number.to_bytes(32, "big"))
    store.put_key(one, entry(one))
    add(store, [row(number)])
    print(number, flush=True)
"""


@pytest.mark.timeout(600)
def test_nothing_that_was_accepted_is_lost(prepared_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "arriero.db"
    shutil.copy(prepared_file, path)
    url = f"sqlite:///{path}"
    chance = random.Random(5)
    accepted: set[str] = set()
    first = 1
    for _ in range(CRASHES):
        told = _write_until_killed(url, first, lines=chance.randint(1, 12))
        first = told[-1] + 2  # the write after the last one told may have been done
        accepted |= {f"key-{number}" for number in told}
        store = open_store(url)
        keys = {one.id for one in store.load_keys().changed}
        audited = {one.key_id for one in store.audit(rows_max=1_000_000)}
        used = {one.request_id for one in store.usage_requests(UsageQuery(rows_max=1_000_000))}
        (day,) = store.usage_days(UsageQuery())
        store.close()
        assert keys == audited, "a key and its audit entry come together"
        assert accepted <= keys
        assert {f"r{key.removeprefix('key-')}" for key in accepted} <= used
        assert day.requests == len(used), "a request and its part of a day's sum come together"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]


def _write_until_killed(url: str, first: int, *, lines: int) -> list[int]:
    """Let a process write, kill it after some lines; return the numbers it told."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, url, str(first)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(lines)]
        os.kill(writer.pid, signal.SIGKILL)
        return told + [int(line) for line in writer.stdout]
