"""`arriero doctor`: the troubleshooting table, executed."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from arriero.app.client import AddressError, Endpoint
from arriero.app.clock import SystemClock
from arriero.app.doctor.asking import ask_backends, ask_gateway
from arriero.app.doctor.configuring import backend_urls
from arriero.app.doctor.diagnosis import Diagnosis, Severity, exit_code
from arriero.app.doctor.facts import Facts
from arriero.app.doctor.looking import look
from arriero.app.doctor.rows import diagnose
from arriero.base.clock import Clock
from arriero.cli.access import GATEWAY_URL, KeyFile, UrlOption, fail, key_from

MARK = {
    Severity.PROBLEM: typer.colors.RED,
    Severity.WARNING: typer.colors.YELLOW,
    Severity.GOOD: typer.colors.GREEN,
    Severity.UNKNOWN: None,
}
WIDTH = 9


def doctor(
    *,
    url: UrlOption = GATEWAY_URL,
    key_file: KeyFile = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The configuration on this host; /etc/litellm/config.yaml or "
            "/etc/arriero/config.yaml, if there is one.",
        ),
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The service on this host; litellm or arriero, if there is one."
        ),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="An Ollama to ask directly; may be repeated. Those of the configuration, if none.",
        ),
    ] = None,
    latency_max: Annotated[
        float,
        typer.Option(
            min=0, metavar="SECONDS", help="What 95 % of first tokens may take before it is slow."
        ),
    ] = 10.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the diagnoses as one JSON document.")
    ] = False,
) -> None:
    """Find out what is wrong with a gateway: symptom, cause, evidence, fix.

    Looks at an address, and at this host where it is the gateway's; changes nothing and loads no
    model. The key comes from --key-file or $ARRIERO_API_KEY; without one less can be told. Exit
    code 0 when nothing is wrong (warnings allowed), 1 when something is, 3 when nothing can be
    told.
    """
    given = os.environ.get("ARRIERO_API_KEY")
    key = key_from(given, key_file) if given or key_file else None
    try:
        facts = gathered(url, key, (config, unit), backend or [], SystemClock())
    except AddressError as wrong:
        fail(str(wrong), "--url http://HOST:4000, --backend http://HOST:11434", code=2)
    found = diagnose(msgspec.structs.replace(facts, latency_max_s=latency_max))
    if as_json:
        document = {"url": url, "exit_code": exit_code(found), "diagnoses": found}
        typer.echo(msgspec.json.format(msgspec.json.encode(document)).decode())
    else:
        show(found)
    raise typer.Exit(exit_code(found))


def gathered(
    url: str,
    key: str | None,
    named: tuple[Path | None, str | None],
    backends: Sequence[str],
    clock: Clock,
) -> Facts:
    """Return all facts: first those of the address, then this host's, then the backends'."""
    Endpoint(url, clock)  # An address that is none is told before anything is asked.
    gateway = ask_gateway(url, key, clock)
    host = look(*named, gateway.port) if gateway.here or any(named) else None
    urls = list(backends) or backend_urls(host.config if host else None)
    return Facts(gateway=gateway, host=host, backends=ask_backends(urls, clock))


def show(found: Sequence[Diagnosis]) -> None:
    """Print the diagnoses, the worst first."""
    order = list(Severity)
    for diagnosis in sorted(found, key=lambda one: order.index(one.severity)):
        word = typer.style(f"{diagnosis.severity.value:<{WIDTH}}", fg=MARK[diagnosis.severity])
        typer.echo(f"{word}{diagnosis.row}: {diagnosis.symptom}")
        for name, text in (
            ("cause", diagnosis.cause),
            *(("evidence", line) for line in diagnosis.evidence),
            ("fix", diagnosis.fix),
        ):
            if text:
                typer.echo(f"{'':<{WIDTH}}{name}: {text}")
