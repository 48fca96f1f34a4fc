"""`arriero smoke`: accept a gateway or refuse it, with evidence."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from arriero.app.client import AddressError
from arriero.app.clock import SystemClock
from arriero.app.smoke import bundle, evidence
from arriero.app.smoke.finding import Finding, Verdict, excused, outcome
from arriero.app.smoke.steps import Plan, Run, accept
from arriero.cli.access import GATEWAY_URL, KeyFile, KeyValue, UrlOption, fail, key_from

COLOURS = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.KNOWN: "magenta",
    Verdict.UNMEASURED: "dim",
    Verdict.UNKNOWN: "yellow",
}


Aliases = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ALIAS",
        help="An alias that must be there and answer; may be repeated. All, if none.",
    ),
]
EmbeddingAliases = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ALIAS", help="An alias that makes embeddings, where its name does not show it."
    ),
]
Backends = Annotated[
    list[str] | None,
    typer.Option(
        metavar="URL",
        help="An Ollama behind the gateway, to ask it too whether it served; may be repeated.",
    ),
]
Requests = Annotated[
    int,
    typer.Option(min=1, max=100, metavar="N", help="How many requests overlap in the fan-out."),
]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout",
        min=1,
        metavar="SECONDS",
        help="How long a silence to bear; a cold load takes minutes.",
    ),
]
PublicMetrics = Annotated[
    bool, typer.Option("--public-metrics", help="/metrics is meant to need no key.")
]
Known = Annotated[
    list[str] | None,
    typer.Option(
        metavar="STEP=REASON",
        help="A fault of another engine that is borne, and why: shown, not counted. "
        "STEP may have * in it; may be repeated.",
    ),
]
EvidenceFolder = Annotated[
    Path | None,
    typer.Option("--evidence", metavar="DIR", help="Folder to write a bundle of evidence into."),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the findings as JSON instead of a table.")
]


def smoke(
    *,
    url: UrlOption = GATEWAY_URL,
    key: KeyValue = None,
    key_file: KeyFile = None,
    model: Aliases = None,
    embedding: EmbeddingAliases = None,
    backend: Backends = None,
    requests: Requests = 10,
    timeout_s: Timeout = 600.0,
    public_metrics: PublicMetrics = False,
    known: Known = None,
    evidence_dir: EvidenceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Accept a gateway: go or no-go, by what its clients would see.

    Works with any OpenAI-compatible gateway. Exit code 0 is go, 1 no-go, 3 cannot tell.
    """
    plan = Plan(
        url=url,
        key=key_from(key, key_file),
        aliases=tuple(model or ()),
        embeddings=tuple(embedding or ()),
        backends=tuple(backend or ()),
        requests=requests,
        timeout_s=timeout_s,
        public_metrics=public_metrics,
    )
    borne = _borne(known or [])
    clock = SystemClock()
    try:
        with Console(stderr=True).status("starting") as spinner:
            run, found = accept(plan, clock, lambda done: spinner.update(f"after: {done.step}"))
    except AddressError as wrong:
        fail(str(wrong), "--url http://HOST:4000", code=2)
    found = [excused(finding, borne) for finding in found]
    if evidence_dir:
        _write(evidence_dir, run, found, clock.unix_s())
    end = outcome(found)
    if as_json:
        typer.echo(json.dumps(evidence.results(run, found), indent=2))
    else:
        show(found)
        typer.echo(bundle.WORDS[end])
    raise typer.Exit(end.value)


def _borne(known: list[str]) -> dict[str, str]:
    """Return the faults that are borne, and why."""
    pairs = [(step.strip(), why.strip()) for step, _, why in (one.partition("=") for one in known)]
    if not all(step and why for step, why in pairs):
        fail("a known fault without a reason", "--known 'STEP=REASON'", code=2)
    return dict(pairs)


def _write(parent: Path, run: Run, found: list[Finding], unix_s: float) -> None:
    try:
        folder = evidence.write(parent, run, found, unix_s)
    except OSError as wrong:
        show(found)
        fail(f"no evidence written: {wrong}", "give --evidence a folder you may write to")
    typer.echo(f"evidence: {folder}", err=True)


def show(found: list[Finding]) -> None:
    """Print the findings: a table on a terminal, one line each elsewhere."""
    console = Console()
    if not console.is_terminal:
        for finding in found:
            typer.echo(f"{finding.verdict.value:<12}  {finding.step}: {finding.detail}")
            if finding.hint:
                typer.echo(f"{'':<12}  hint: {finding.hint}")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("step", "verdict", "detail"):
        table.add_column(heading)
    for finding in found:
        hint = f"\nhint: {finding.hint}" if finding.hint else ""
        verdict = Text(finding.verdict.value, style=COLOURS[finding.verdict])
        table.add_row(finding.step, verdict, Text(finding.detail + hint))
    console.print(table)
