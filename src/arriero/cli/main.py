"""The `arriero` command: one module per subcommand, imported when it is asked for.

`arriero NAME` is the function NAME of the module `arriero.cli.NAME`, or the Typer of that name
where the command has commands of its own. What one command needs (Rich for tables, TLS for a
client, the server) costs the others neither start-up time nor memory.

Data goes to stdout, words to stderr. Exit codes: 0 good, 1 problems found, 2 wrong use,
3 cannot tell.
"""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from arriero import __version__

COMMANDS = (
    "up", "serve", "check", "smoke", "report", "status", "keys", "usage", "store", "webui",
    "doctor",
)  # fmt: skip


class LazyGroup(TyperGroup):
    """A group that knows its commands by name and makes each when it is first asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - Typer's
        """Return the names in the order of the help page."""
        return list(COMMANDS)

    def get_command(
        self,
        ctx: Any,  # noqa: ARG002 - Typer's
        cmd_name: str,
    ) -> TyperCommand | TyperGroup | None:
        """Return the command of that name, None when there is none."""
        if cmd_name not in COMMANDS:
            return None
        found = getattr(import_module(f"arriero.cli.{cmd_name}"), cmd_name)
        if isinstance(found, typer.Typer):
            group = typer.main.get_group(found)
            group.name = cmd_name
            return group
        single = typer.Typer(
            add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
        )
        single.command(cmd_name)(found)
        command = typer.main.get_command(single)
        assert isinstance(command, TyperCommand)
        return command


app = typer.Typer(
    name="arriero",
    cls=LazyGroup,
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
