"""How the commands that ask a running gateway find it and its key."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer

GATEWAY_URL = "http://127.0.0.1:4000"
KEY_BYTES_MAX = 4_096

UrlOption = Annotated[
    str,
    typer.Option(
        envvar="ARRIERO_URL", metavar="URL", help="The gateway's address, with or without /v1."
    ),
]
KeyValue = Annotated[
    str | None,
    typer.Option(
        envvar="ARRIERO_API_KEY",
        metavar="KEY",
        help="The key. Others on this machine can read a command line; the variable is better.",
    ),
]
KeyFile = Annotated[Path | None, typer.Option(metavar="FILE", help="A file that holds the key.")]


def fail(message: str, hint: str, code: int = 3) -> NoReturn:
    """Say what is wrong and the way out on stderr, and end: 2 is wrong use, 3 cannot tell."""
    typer.echo(f"error: {message}", err=True)
    typer.echo(f"hint: {hint}", err=True)
    raise typer.Exit(code)


def key_from(value: str | None, file: Path | None) -> str:
    """Return the key of the file, or else of the option or variable."""
    way = "--key-file FILE, or ARRIERO_API_KEY=... in the environment"
    if file:
        try:
            with file.open("rb") as opened:
                value = opened.read(KEY_BYTES_MAX).decode()
        except (OSError, UnicodeDecodeError) as wrong:
            fail(f"cannot read the key: {wrong}", way, code=2)
    key = (value or "").strip()
    if not key:
        fail("no key given", way, code=2)
    if not key.isascii() or not key.isprintable() or " " in key:
        fail("the key has characters that no header can carry", way, code=2)
    return key
