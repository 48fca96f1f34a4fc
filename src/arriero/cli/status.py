"""`arriero status`: the fleet as a running gateway sees it now."""

from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from arriero.app.client import AddressError, Endpoint
from arriero.app.clock import SystemClock
from arriero.app.smoke.answers import UNAUTHORIZED
from arriero.app.smoke.fleet import status_page
from arriero.app.smoke.steps import STATUS_PATH
from arriero.cli.access import GATEWAY_URL, KeyFile, KeyValue, UrlOption, fail, key_from
from arriero.wire.status_page import StatusPage

WIDTH_ELSEWHERE = 200


def status(
    *,
    url: UrlOption = GATEWAY_URL,
    key: KeyValue = None,
    key_file: KeyFile = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the gateway's own JSON instead of tables.")
    ] = False,
) -> None:
    """Show the fleet as a running gateway sees it now.

    Exit code 0 when it is ready to serve, 1 when it is not, 3 when it cannot be asked.
    """
    try:
        endpoint = Endpoint(url, SystemClock())
    except AddressError as wrong:
        fail(str(wrong), "--url http://HOST:4000", code=2)
    exchange = endpoint.call("GET", STATUS_PATH, key=key_from(key, key_file))
    if exchange.error:
        fail(f"{endpoint.url}: {exchange.error}", "is the gateway running there? arriero serve")
    if exchange.status == UNAUTHORIZED:
        fail("the gateway refuses this key", "it wants the master key, or one that may look")
    page = status_page(exchange)
    if page is None:
        fail(f"{endpoint.url} tells no status (HTTP {exchange.status})", "is it arriero at all?")
    if as_json:
        typer.echo(exchange.body.decode())
    else:
        show(page)
    raise typer.Exit(0 if page.ready else 1)


def show(page: StatusPage) -> None:
    """Print the page as two tables."""
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH_ELSEWHERE
    ready = "ready" if page.ready else "not ready: no alias can be routed"
    console.print(f"arriero {page.version}, up {page.uptime_s:.0f} s, {ready}", highlight=False)
    console.print(f"configuration {page.config_digest or '-'}\n", highlight=False)
    backends = _table("backend", "kind", "state", "in flight", "served", "version", "loaded")
    for b in page.backends:
        counts = (str(b.in_flight), str(b.served))
        loaded = ", ".join(b.loaded) or "-"
        backends.add_row(b.name, b.kind, b.state, *counts, b.version or "-", loaded)
    console.print(backends)
    console.print()
    waiting = msgspec.structs.asdict(page.queue)
    if any(waiting.values()):
        told = ", ".join(f"{count} {priority}" for priority, count in waiting.items() if count)
        console.print(f"waiting for a slot: {told}\n", highlight=False)
    models = _table("alias", "backend", "model", "available")
    for model in page.models:
        for target in model.targets:
            now = "yes" if target.available else "no"
            models.add_row(model.name, target.backend, target.model, now)
    console.print(models)


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading)
    return table
