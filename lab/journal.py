"""The undo list of a lab: everything it made on this machine, written down before it is made.

Context managers undo what they made when the run ends, whatever ends it. A run that was killed
leaves its list behind, and the next one, or `lab down`, undoes it from there. So there is one way
to undo each kind of thing, and nothing is ever found by a name that somebody else could use.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STOP_TIMEOUT_S = 20.0
Facts = dict[str, str]


def started_at(pid: int) -> str:
    """Return a process's start time as /proc tells it; empty when there is no such process.

    A process id alone may be somebody else's by now; id and start time together are not.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def _runs(facts: Facts) -> bool:
    pid = int(facts["pid"])
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # our own child would stay as a zombie, which still has a stat
    return started_at(pid) == facts["started_at"]


def ask_to_end(facts: Facts) -> None:
    """Send SIGTERM, at which nspawn shuts its machine down in order."""
    with suppress(ProcessLookupError):
        if _runs(facts):
            os.kill(int(facts["pid"]), signal.SIGTERM)


def _end_process(facts: Facts) -> None:
    ask_to_end(facts)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while _runs(facts) and time.monotonic() < deadline:
        time.sleep(0.05)
    with suppress(ProcessLookupError):
        if _runs(facts):
            os.kill(int(facts["pid"]), signal.SIGKILL)
    while _runs(facts):
        time.sleep(0.05)


def _quietly(*argv: str) -> None:
    subprocess.run(argv, check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=30)


def _unmount(facts: Facts) -> None:
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while os.path.ismount(facts["path"]):
        _quietly("umount", facts["path"])
        if time.monotonic() > deadline:
            _quietly("umount", "--lazy", facts["path"])
        time.sleep(0.02)


def _delete_link(facts: Facts) -> None:
    _quietly("ip", "link", "delete", facts["name"])


def _delete_table(facts: Facts) -> None:
    _quietly("nft", "delete", "table", facts["family"], facts["name"])


def _restore_file(facts: Facts) -> None:
    Path(facts["path"]).write_text(facts["content"], encoding="utf-8")


def _delete_folder(facts: Facts) -> None:
    shutil.rmtree(facts["path"], ignore_errors=True)


def _delete_cgroup(facts: Facts) -> None:
    """Remove a control group and those below it, as soon as its last process is gone."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    top = Path(facts["path"])
    while top.is_dir() and time.monotonic() < deadline:
        for folder, _folders, _files in os.walk(top, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()
        time.sleep(0.02)


UNDO: dict[str, Callable[[Facts], None]] = {
    "process": _end_process,
    "mount": _unmount,
    "link": _delete_link,
    "table": _delete_table,
    "file": _restore_file,
    "folder": _delete_folder,
    "cgroup": _delete_cgroup,
}


class Journal:
    """The undo list, kept on disk as JSON lines in the order of making."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: list[tuple[str, Facts]] = []
        self._left = False

    @classmethod
    def read(cls, path: Path) -> "Journal":
        """Return the list that an earlier run left, empty when it left none."""
        journal = cls(path)
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                with suppress(json.JSONDecodeError):  # the last line of a killed run may be half
                    kind, facts = json.loads(line)
                    journal._entries.append((kind, facts))
        return journal

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, kind: str, **facts: str) -> Facts:
        """Write down a thing that is about to be made."""
        self._entries.append((kind, facts))
        self._save()
        return facts

    @contextmanager
    def keep(self, kind: str, **facts: str) -> Iterator[Facts]:
        """Write a thing down, and undo it at the end."""
        self.add(kind, **facts)
        try:
            yield facts
        finally:
            self.undo(kind, facts)

    def leave(self) -> None:
        """Leave everything as it is from now on, for `lab down` or the next run to undo."""
        self._left = True

    def undo(self, kind: str, facts: Facts) -> None:
        """Undo one thing, unless that was done already, and cross it out."""
        if (kind, facts) in self._entries and not self._left:
            UNDO[kind](facts)
            self._entries.remove((kind, facts))
            self._save()

    def undo_all(self) -> None:
        """Undo everything, the last made first; processes are asked to end all at once."""
        self.ask_all_to_end()
        for kind, facts in reversed(self._entries.copy()):
            self.undo(kind, facts)

    def ask_all_to_end(self) -> None:
        """Let all machines shut down at the same time rather than one after the other."""
        for kind, facts in self._entries:
            if kind == "process" and not self._left:
                ask_to_end(facts)

    def _save(self) -> None:
        if not self._entries:
            self._path.unlink(missing_ok=True)
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        fresh.write_text("".join(json.dumps(e) + "\n" for e in self._entries), encoding="utf-8")
        fresh.replace(self._path)
