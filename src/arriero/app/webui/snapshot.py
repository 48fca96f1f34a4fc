"""The way back: a file with what there was before the first change, for its owner alone.

It holds the keys of all OpenAI-compatible connections, because the admin API replaces them all at
once; of the rest of the configuration it holds only checksums.
"""

import contextlib
import os
import secrets
from pathlib import Path

import msgspec

from arriero.app.webui.state import State
from arriero.app.webui.trouble import Trouble

BYTES_MAX = 16_777_216
FORMAT = 1


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What there was, and what was made of it.

    `after` is what the last command left; where Open WebUI differs from it, somebody else changed
    something. `key_alias` names the gateway's key that was made for Open WebUI, `key_url` where.
    """

    format: int
    webui: str
    taken_unix_s: float
    group: str
    prefix: str
    gateway: str
    before: State
    after: State
    digests: dict[str, str]
    key_alias: str | None = None
    rolled_back_unix_s: float | None = None


def load(path: Path) -> Snapshot | None:
    """Return the snapshot, None when there is no such file."""
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX)
    except FileNotFoundError:
        return None
    except OSError as wrong:
        raise Trouble(f"cannot read the snapshot: {wrong}", "--snapshot FILE", code=2) from wrong
    try:
        return msgspec.json.decode(content, type=Snapshot)
    except msgspec.DecodeError as wrong:
        raise Trouble(f"{path} is no snapshot: {wrong}", "--snapshot FILE", code=2) from wrong


def save(path: Path, snapshot: Snapshot) -> None:
    """Write the file at once or not at all, readable by its owner alone."""
    content = msgspec.json.format(msgspec.json.encode(snapshot))
    # A name that nobody can foresee, so that no link waits there in a folder that others write to.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with open(os.open(draft, flags, 0o600), "wb") as file:  # noqa: PTH123 - a descriptor's mode
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as wrong:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise Trouble(f"cannot write the snapshot: {wrong}", "--snapshot FILE", code=2) from wrong
