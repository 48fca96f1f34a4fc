"""`arriero report`: take findings made elsewhere into the evidence of an acceptance."""

from pathlib import Path
from typing import Annotated

import typer

from arriero.app.smoke import bundle
from arriero.cli.access import KeyFile, KeyValue, fail, key_from

Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="The folder that arriero smoke --evidence wrote.")
]
Add = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        help='Findings as JSON: {"title": ..., "findings": [{"step", "verdict", "detail", "hint"}]'
        ', "pictures": [{"file", "caption"}]}; pictures are PNG files beside it, and may be left '
        "out. May be repeated.",
    ),
]


def report(
    *, folder: Folder, add: Add = None, key: KeyValue = None, key_file: KeyFile = None
) -> None:
    """Judge the evidence of an acceptance together with findings that others made.

    Writes the pages and checksums anew, over all files of the folder. With a key, no file may hold
    it. Exit code 0 is go, 1 no-go, 3 cannot tell.
    """
    secret = key_from(key, key_file) if key or key_file else None
    try:
        end = bundle.add(folder, add or [], secret)
    except (bundle.BundleError, OSError) as wrong:
        hint = "give the folder that arriero smoke --evidence wrote, and findings as JSON"
        fail(f"{folder}: {wrong}", hint, code=2)
    typer.echo(f"report: {folder / bundle.PAGE}", err=True)
    typer.echo(bundle.WORDS[end])
    raise typer.Exit(end.value)
