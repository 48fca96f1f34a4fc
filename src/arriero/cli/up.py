"""`arriero up`: try it now."""

import secrets
import sys
from types import TracebackType
from typing import Annotated, Final, Self

import typer
from rich.console import Console
from rich.status import Status

from arriero.app.up import CannotStart, Standing, Wanted, ollama_host_given, run_up
from arriero.cli.access import fail
from arriero.embedded.package import ExtraMissing

PORT_USUAL: Final = 4000
KEY_BYTES: Final = 24


class Progress:
    """Steps on stderr: behind a spinner on a terminal, one plain line each elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = console.status("") if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def tell(self, text: str) -> None:
        """Show a step."""
        self._console.print(text, highlight=False, markup=False, style="dim", soft_wrap=True)
        if self._status is not None:
            self._status.update(text)

    def stop(self) -> None:
        """Take the spinner away; lines may still follow."""
        if self._status is not None:
            self._status.stop()


def up(
    *,
    host: Annotated[str, typer.Option(help="Listen here.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Listen on this port instead of 4000 or the next free one."
        ),
    ] = None,
    master_key: Annotated[
        str | None,
        typer.Option(
            envvar="ARRIERO_MASTER_KEY", help="Use this master key instead of a random one."
        ),
    ] = None,
) -> None:
    """Try it now: front the Ollama of this machine, or start the embedded fleet.

    Looks for Ollama at $OLLAMA_HOST or 127.0.0.1:11434. Where none answers, two small servers
    with a real model, SmolLM2-135M, stand in. Serves until Ctrl-C.
    """
    wanted = Wanted(
        host=host,
        port=port,
        port_usual=PORT_USUAL,
        master_key=master_key or f"sk-{secrets.token_urlsafe(KEY_BYTES)}",
        ollama_host=ollama_host_given(),
    )
    progress = Progress(Console(stderr=True))

    def show(standing: Standing) -> None:
        progress.stop()
        sys.stdout.write(render(standing))
        sys.stdout.flush()

    try:
        with progress:
            run_up(wanted, progress.tell, show)
    except (CannotStart, ExtraMissing) as error:
        fail(error.message, error.hint, code=1)


def render(standing: Standing) -> str:
    """Return the address, the key, and a call that can be pasted."""
    alias = standing.aliases[0]
    body = f'{{"model": "{alias}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
    return (
        f"address     {standing.url}/v1\n"
        f"master key  {standing.master_key}\n"
        f"models      {', '.join(standing.aliases)}\n"
        f"backends    {', '.join(f'{b.name} ({b.url})' for b in standing.backends)}\n"
        "\n"
        f"curl {standing.url}/v1/chat/completions \\\n"
        f"  -H 'Authorization: Bearer {standing.master_key}' \\\n"
        "  -H 'Content-Type: application/json' \\\n"
        f"  -d '{body}'\n"
    )
