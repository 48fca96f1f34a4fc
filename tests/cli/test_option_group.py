"""A group stands for its options, in its place, with their names, defaults and variables."""

from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from arriero.cli.option_group import OptionGroup, grouped

Depth = Annotated[int, typer.Option("--depth", "-d", envvar="TEST_DEPTH", help="How deep.")]


class Place(OptionGroup, frozen=True, kw_only=True):
    """Where."""

    depth: Depth = 3
    dry: Annotated[bool, typer.Option(help="Without water.")] = False


app = typer.Typer(add_completion=False)


@app.command()
@grouped
def dig(
    *,
    tool: Annotated[str, typer.Argument()],
    place: Place,
    loud: Annotated[bool, typer.Option("--loud")] = False,
) -> None:
    """Dig."""
    typer.echo(f"{tool} {place.depth} {place.dry} {loud}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["spade"], "spade 3 False False"),
        (["spade", "-d", "7", "--dry", "--loud"], "spade 7 True True"),
        (["--depth", "1", "spade", "--no-dry"], "spade 1 False False"),
    ],
)
def test_a_command_is_given_its_groups(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, result.output.strip()) == (0, said)


def test_variables_and_mistakes_are_those_of_the_options() -> None:
    runner = CliRunner()
    assert runner.invoke(app, ["spade"], env={"TEST_DEPTH": "9"}).output == "spade 9 False False\n"
    assert runner.invoke(app, ["spade", "--depth", "deep"]).exit_code == 2
    assert runner.invoke(app, ["spade", "--place", "x"]).exit_code == 2


def test_the_help_lists_them_in_their_place() -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    assert shown.index("--depth") < shown.index("--dry") < shown.index("--loud")
    assert "Dig." in shown
    assert "How deep." in shown
