"""`arriero check`: judge a configuration file before it is run.

The same check is the Ansible role's `validate:`, the unit's `ExecStartPre` and the gate of a
reload, so its exit code is the contract: 0 good (notes allowed), 1 mistakes, 2 no such file.
"""

from pathlib import Path
from typing import Any

import msgspec
import typer

from arriero.app.configfile import read_config
from arriero.config.load import Loaded
from arriero.config.problems import ConfigError, Problem
from arriero.config.render import effective, effective_data


def check(
    file: Path = typer.Argument(help="The configuration, in LiteLLM's or arriero's vocabulary."),
    as_json: bool = typer.Option(False, "--json", help="Print everything as one JSON document."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Print nothing but mistakes."),
) -> None:
    """Check a configuration file and show what it means.

    Mistakes, notes and a summary go to stderr; the configuration in force goes to stdout as YAML
    with all defaults, secrets masked. Exit codes: 0 good, 1 mistakes, 2 the file cannot be read.
    """
    try:
        loaded = read_config(file)
    except OSError as error:
        typer.echo(f"{file}: {error.strerror}", err=True)
        typer.echo("  hint: arriero check FILE, for example /etc/arriero/config.yaml", err=True)
        raise typer.Exit(2) from error
    except ConfigError as error:
        _report_errors(file, error, as_json=as_json)
        raise typer.Exit(1) from error
    if as_json:
        _print_json(file, loaded.notes, loaded)
    elif not quiet:
        _report(file, loaded)


def _report_errors(file: Path, error: ConfigError, *, as_json: bool) -> None:
    if as_json:
        _print_json(file, error.problems, None)
        return
    for problem in error.problems:
        typer.echo(problem.render(str(file)), err=True)
    count = len(error.problems)
    typer.echo(f"{file}: {count} mistake{'s' * (count != 1)}", err=True)


def _report(file: Path, loaded: Loaded) -> None:
    for note in loaded.notes:
        typer.echo(note.render(str(file)), err=True)
    for line in summary(loaded):
        typer.echo(line, err=True)
    typer.echo(effective(loaded.config), nl=False)


def summary(loaded: Loaded) -> list[str]:
    """Return what would be served, a line per alias."""
    config = loaded.config
    aliases = _count(config.models, "alias", "aliases")
    backends = _count(config.backends, "backend", "backends")
    where = f"{config.server.host}:{config.server.port}"
    lines = [f"good: {aliases} on {backends}, {config.routing.strategy}, at {where}"]
    width = max(len(model.name) for model in config.models)
    for model in config.models:
        places = ", ".join(f"{route.backend} ({route.model})" for route in model.routes)
        lines.append(f"  {model.name:{width}} -> {places}")
    return lines


def _count(things: tuple[object, ...], one: str, many: str) -> str:
    return f"{len(things)} {one if len(things) == 1 else many}"


def _print_json(file: Path, problems: list[Problem], loaded: Loaded | None) -> None:
    document: dict[str, Any] = {"file": str(file), "good": loaded is not None, "problems": problems}
    if loaded is not None:
        document["vocabulary"] = loaded.vocabulary
        document["digest"] = loaded.config.digest
        document["config"] = effective_data(loaded.config)
    typer.echo(msgspec.json.format(msgspec.json.encode(document)).decode())
