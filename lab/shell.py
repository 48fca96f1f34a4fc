"""Commands with a time limit, each written to the transcript with what it answered."""

import os
import shlex
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.problems import LabProblem

SHOWN_CHARS_MAX = 3000


@dataclass(frozen=True)
class Done:
    """A command that ended: its exit code, and both its outputs as one text."""

    argv: Sequence[str]
    code: int
    output: str
    duration_s: float


class CommandFailed(LabProblem):
    """A command ended otherwise than it must."""

    def __init__(self, done: Done) -> None:
        tail = done.output[-SHOWN_CHARS_MAX:].strip()
        super().__init__(f"exit code {done.code}: {shlex.join(done.argv)}\n{tail}")
        self.done = done


class Transcript:
    """A file that every command and remark of a run is appended to, from any thread."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._secrets: list[str] = []

    def hide(self, secret: str) -> None:
        """Write this text as stars from now on."""
        self._secrets.append(secret)

    def write(self, text: str) -> None:
        """Append a paragraph."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        if self._path is not None:
            with self._lock, self._path.open("a", encoding="utf-8") as file:
                file.write(f"{text.rstrip()}\n\n")


class Shell:
    """Runs commands on this machine."""

    def __init__(self, transcript: Transcript) -> None:
        self.transcript = transcript

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        timeout_s: float = 60.0,
        check: bool = True,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> Done:
        """Run a command to its end; `check` makes an exit code other than 0 a problem."""
        words = [str(word) for word in argv]
        began = time.monotonic()
        try:
            ended = subprocess.run(
                words,
                check=False,
                input=stdin if stdin is not None else "",
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout_s,
                env={**os.environ, **(env or {})},
                cwd=folder,
                encoding="utf-8",
                errors="replace",
            )
            done = Done(words, ended.returncode, ended.stdout, time.monotonic() - began)
        except subprocess.TimeoutExpired as slow:
            output = slow.output or b""
            text = output.decode(errors="replace") if isinstance(output, bytes) else output
            text += f"\n(no end within {timeout_s:g} s)"
            done = Done(words, 124, text, time.monotonic() - began)
        self._note(done)
        if check and done.code != 0:
            raise CommandFailed(done)
        return done

    def _note(self, done: Done) -> None:
        line = f"$ {shlex.join(done.argv)}\n{done.output.rstrip()}"
        self.transcript.write(f"{line}\n[exit {done.code}, {done.duration_s:.1f} s]")
