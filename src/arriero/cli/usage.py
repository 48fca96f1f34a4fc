"""`arriero usage`: what was used, by whom and where, as a table, CSV or JSON."""

import csv
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import typer

from arriero.admin.usage import Sum, UsedRequest, harmless
from arriero.app.clock import SystemClock
from arriero.app.keydesk import KeyDesk
from arriero.cli.access import fail
from arriero.cli.key_options import (
    AsJson,
    Where,
    desk,
    print_json,
    table,
)
from arriero.cli.option_group import grouped

PAGE: Final = 10_000
DAYS: Final = 7
REQUEST_COLUMNS: Final = (
    "time", "key", "user", "model", "backend", "outcome", "prompt_tokens", "cached_tokens",
    "completion_tokens", "duration_s",
)  # fmt: skip
SUMS: Final = ("requests", "failures", "prompt_tokens", "cached_tokens", "completion_tokens")
GROUPS: Final = ("day", "key", "user", "model", "backend")


@grouped
def usage(
    *,
    first: Annotated[
        str | None,
        typer.Option("--from", metavar="DAY", help=f"The first day, UTC. {DAYS} days, if none."),
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", metavar="DAY", help="The last day. Today, if none.")
    ] = None,
    by: Annotated[
        str, typer.Option(metavar="NAMES", help=f"What to add up by: {', '.join(GROUPS)}.")
    ] = "day",
    of: Annotated[
        str | None, typer.Option("--of", metavar="KEY", help="Of one key, by its alias or id.")
    ] = None,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Of one user.")] = None,
    model: Annotated[str | None, typer.Option(metavar="ALIAS", help="Of one model.")] = None,
    backend: Annotated[str | None, typer.Option(metavar="NAME", help="Of one backend.")] = None,
    requests: Annotated[
        bool, typer.Option("--requests", help="List single requests, the newest first.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    where: Where,
    as_json: AsJson = False,
) -> None:
    """Show what was used: sums, or single requests, as far back as they are kept."""
    if as_csv and as_json:
        fail("--csv and --json are two forms of one answer", "give one of them", code=2)
    query = {
        "start_date": first or _days_ago(DAYS - 1),
        "end_date": last or "",
        "key": of or "",
        "user": user or "",
        "model": model or "",
        "backend": backend or "",
        "limit": str(PAGE),
    }
    with desk(where) as asked:
        found = _requests(asked, query) if requests else _sums(asked, {**query, "group_by": by})
    if as_json:
        print_json(found)
    elif as_csv:
        _print_csv(found, (UsedRequest if requests else Sum).__struct_fields__)
    elif requests:
        table(found, {name.replace("_tokens", ""): name for name in REQUEST_COLUMNS})
    else:
        table(found, {name.replace("_", " "): name for name in _columns(by)})


def _days_ago(days: int) -> str:
    today = datetime.fromtimestamp(SystemClock().unix_s(), UTC).date()
    return str(today - timedelta(days=days))


def _sums(asked: KeyDesk, query: dict[str, str]) -> list[dict[str, Any]]:
    answer = asked.ask("GET", "/usage", query=query)
    if not answer["complete"]:
        typer.echo(f"only the first {PAGE} sums: narrow them", err=True)
    found: list[dict[str, Any]] = answer["usage"]
    return found


def _requests(asked: KeyDesk, query: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    before = ""
    while True:
        answer = asked.ask("GET", "/usage/requests", query={**query, "before": before})
        found += answer["requests"]
        if answer["next"] is None:
            return found
        before = str(answer["next"])


def _columns(by: str) -> list[str]:
    asked = by.replace(" ", "").split(",")
    shown: list[str] = []
    for name in GROUPS:
        if name in asked:
            shown += [name, "key_alias"] if name == "key" else [name]
    return [*shown, *SUMS]


def _print_csv(found: list[dict[str, Any]], names: tuple[str, ...]) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(names)
    writer.writerows(harmless(row[name] for name in names) for row in found)
