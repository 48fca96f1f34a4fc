"""Where the master key comes from, and which keys are refused.

In this order: the file's own value (which may be `os.environ/NAME`), the file named by
`master_key_file`, systemd's credential `master_key` (LoadCredential=), `ARRIERO_MASTER_KEY`,
`LITELLM_MASTER_KEY`. A value that is there and bad is a mistake, never a reason to look further.
No message shows a key.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from arriero.config.reader import Place, Reader
from arriero.config.settings import Secret

CREDENTIAL_NAME: Final = "master_key"
VARIABLES: Final = ("ARRIERO_MASTER_KEY", "LITELLM_MASTER_KEY")
LENGTH_MIN: Final = 8
LENGTH_MAX: Final = 512
HINT: Final = "make one with `openssl rand -hex 24`"

# Keys printed in tutorials and documentation; whoever scans for open gateways tries them first.
_PUBLIC_TEXT: Final = """
    sk-1234 sk-12345 sk-123456 sk-12345678 sk-123456789 sk-1234567890 sk-master-key sk-master
    sk-changeme sk-change-me changeme change-me password secret sk-secret sk-test-key
    sk-litellm-master-key your-master-key your_master_key sk-your-master-key
"""
_PUBLIC: Final = frozenset(_PUBLIC_TEXT.split())

ReadFile = Callable[[str], bytes]


class Outside(msgspec.Struct, frozen=True):
    """What lies outside the file: the environment, and a way to read other files."""

    environ: Mapping[str, str]
    read_file: ReadFile


def find(
    reader: Reader, outside: Outside, at: Place, *, given: Secret | None, file: str | None
) -> Secret | None:
    """Return the master key, or None after telling at `at` why there is none."""
    if given is not None:
        return _checked(reader, at, given.reveal(), "the master key")
    if file is not None:
        return _from_file(reader, outside, at, file, missing_ok=False)
    directory = outside.environ.get("CREDENTIALS_DIRECTORY")
    if directory:
        path = f"{directory}/{CREDENTIAL_NAME}"
        found = _from_file(reader, outside, at, path, missing_ok=True)
        if found is not None:
            return found
    for variable in VARIABLES:
        if variable in reader.environ:
            return _checked(reader, at, reader.environ[variable], f"the key in ${variable}")
    reader.error(at, "no master key: every call would be refused", HINT)
    return None


def _from_file(
    reader: Reader, outside: Outside, at: Place, path: str, *, missing_ok: bool
) -> Secret | None:
    try:
        data = outside.read_file(path)
    except FileNotFoundError:
        if not missing_ok:
            reader.error(at, f"there is no file {path}", "write the key into it; " + HINT)
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such path"
        reader.error(at, f"cannot read {path}: {reason}", "let the service's user read it")
        return None
    return _checked(reader, at, data.decode("utf-8", "replace").strip(), f"the key in {path}")


def _checked(reader: Reader, at: Place, key: str, what: str) -> Secret | None:
    complaint = _complaint(key)
    if complaint:
        reader.error(at, f"{what} {complaint}", HINT)
        return None
    if "redact" in key.lower() or "example" in key.lower():
        reader.note(at, f"{what} looks like a placeholder", HINT)
    return Secret(key)


def _complaint(key: str) -> str:
    if not key:
        return "is empty"
    if key.lower() in _PUBLIC:
        return "is publicly known"
    if not LENGTH_MIN <= len(key) <= LENGTH_MAX:
        return f"has {len(key)} characters; {LENGTH_MIN} to {LENGTH_MAX} are needed"
    if not all("!" <= character <= "~" for character in key):
        return "has characters that an HTTP header cannot carry"
    return ""
