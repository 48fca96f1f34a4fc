"""The `arriero` command: one module per subcommand, gathered here.

Data goes to stdout, words to stderr. Exit codes: 0 good, 1 problems found, 2 wrong use,
3 cannot tell.
"""

import typer

from arriero import __version__

app = typer.Typer(
    name="arriero",
    help="One OpenAI-compatible address in front of a fleet of model servers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    """One OpenAI-compatible address in front of a fleet of model servers."""
