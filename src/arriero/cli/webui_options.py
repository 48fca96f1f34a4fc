"""The options of `arriero webui`'s commands, and what they mean: whom to ask, as whom."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from arriero.app.client import AddressError, Endpoint
from arriero.app.clock import SystemClock
from arriero.app.webui.api import OpenWebUI
from arriero.app.webui.plans import Plan
from arriero.app.webui.trouble import Trouble
from arriero.cli.access import fail

WEBUI_URL = "http://127.0.0.1:8080"
SECRET_BYTES_MAX = 65_536

WebuiOption = Annotated[
    str,
    typer.Option(
        "--webui", envvar="ARRIERO_WEBUI_URL", metavar="URL", help="Open WebUI's address."
    ),
]
Email = Annotated[
    str | None,
    typer.Option(
        envvar="ARRIERO_WEBUI_EMAIL",
        metavar="E-MAIL",
        help="An administrator of Open WebUI; the password is in --password-file or "
        "$ARRIERO_WEBUI_PASSWORD.",
    ),
]
PasswordFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A file that holds the password.")
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A file that holds an administrator's API key or token, instead of a password; or "
        "$ARRIERO_WEBUI_TOKEN.",
    ),
]
SnapshotFile = Annotated[
    Path | None,
    typer.Option(
        "--snapshot",
        metavar="FILE",
        help="Where the way back is kept; it holds keys. Without it, a file for each Open WebUI "
        "under $XDG_STATE_HOME/arriero.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be changed, and end.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Change without asking.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print everything as one JSON document.")]
Watch = Annotated[
    float,
    typer.Option(
        "--watch",
        min=0,
        metavar="SECONDS",
        help="How long to chat through Open WebUI and judge; 0 is not at all.",
    ),
]
WatchEvery = Annotated[
    float, typer.Option("--every", min=0.1, metavar="SECONDS", help="Time between two chats.")
]
LatencyMax = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="Most that 95 % of the chats, and of the gateway's first tokens, may take.",
    ),
]
ErrorsMax = Annotated[
    float, typer.Option(min=0, max=100, metavar="PERCENT", help="Most that may fail.")
]
Timeout = Annotated[
    float, typer.Option("--timeout", min=1, metavar="SECONDS", help="How long to wait for a chat.")
]


Group = Annotated[str, typer.Option(help="The group that begins.")]
Members = Annotated[
    list[str] | None,
    typer.Option("--member", metavar="E-MAIL", help="A member of the group; may be repeated."),
]
DefaultAlias = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="ALIAS", help="What members find chosen; the first alias, if none."
    ),
]
Aliases = Annotated[
    list[str] | None,
    typer.Option(
        "--alias",
        metavar="ALIAS",
        help="An alias to offer; may be repeated. All that chat, if none.",
    ),
]
Prefix = Annotated[
    str, typer.Option(help="Goes before the aliases, so that none is taken for a direct model.")
]
KeyAlias = Annotated[str, typer.Option(metavar="NAME", help="Name of the key made for Open WebUI.")]


@contextmanager
def told() -> Iterator[None]:
    """Say what stops the command, with its way out."""
    try:
        yield
    except AddressError as wrong:
        fail(str(wrong), "--webui http://HOST:8080, --url http://HOST:4000", code=2)
    except Trouble as trouble:
        fail(trouble.message, trouble.hint, code=trouble.code)


def secret(file: Path | None, variable: str) -> str:
    """Return what stands in the file, or else in the variable."""
    if file is None:
        return os.environ.get(variable, "").strip()
    try:
        with file.open("rb") as opened:
            return opened.read(SECRET_BYTES_MAX).decode().strip()
    except (OSError, UnicodeDecodeError) as wrong:
        fail(f"cannot read {file}: {wrong}", f"a readable file, or {variable}=...", code=2)


def entered(
    address: str, email: str | None, password_file: Path | None, token_file: Path | None
) -> OpenWebUI:
    """Return Open WebUI, entered as an administrator."""
    endpoint = Endpoint(address, SystemClock())
    token = secret(token_file, "ARRIERO_WEBUI_TOKEN")
    if token:
        return OpenWebUI(endpoint, token)
    password = secret(password_file, "ARRIERO_WEBUI_PASSWORD")
    if not email or not password:
        fail(
            "no administrator of Open WebUI given",
            "--email E-MAIL --password-file FILE, or --token-file FILE",
            code=2,
        )
    site = OpenWebUI(endpoint)
    site.sign_in(email, password)
    return site


def snapshot_path(given: Path | None, address: str) -> Path:
    """Return the file of the way back: the one given, or one for each Open WebUI."""
    if given is not None:
        return given
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    parts = urlsplit(address if "://" in address else f"http://{address}")
    name = f"{parts.hostname}-{parts.port or parts.scheme}"
    return Path(state) / "arriero" / "webui" / f"{name}.json"


def agreed(plan: Plan, *, yes: bool) -> None:
    """Go on when the changes are agreed to; where nobody can be asked, they are not."""
    if yes:
        return
    if not sys.stdin.isatty():
        count = len(plan.changes)
        fail(f"{count} changes wait for a yes", "--yes makes them, --dry-run shows them", code=2)
    if not typer.confirm("Make these changes?", err=True):
        fail("nothing was changed", "--dry-run shows what would be", code=1)
