"""The bundle of evidence: what was asked, what came back, what it means, and checksums of it all.

DIR/20250131T235959Z/
    report.html       for people, one page with everything
    summary.md        the same without the requests, as text
    results.json      the findings, for programs
    transcript.txt    every request and answer, the key blotted out
    versions.json     who measured what
    manifest.sha256   `sha256sum -c manifest.sha256` proves that nothing was changed since
"""

import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from arriero import __version__
from arriero.app.client import Exchange
from arriero.app.smoke import bundle
from arriero.app.smoke.finding import Finding, outcome
from arriero.app.smoke.steps import Run

BODY_BYTES_SHOWN_MAX = 4_096
NAMES_MAX = 100
AT_FORMAT = "%Y-%m-%d %H:%M:%S UTC"


def results(run: Run, found: Sequence[Finding]) -> dict[str, object]:
    """Return what `--json` prints and results.json holds."""
    return {
        "url": run.url,
        "outcome": bundle.WORDS[outcome(found)],
        "config_digest": run.page.config_digest if run.page else None,
        "requests": len(run.exchanges),
        "findings": [
            {"step": f.step, "verdict": f.verdict.value, "detail": f.detail, "hint": f.hint}
            for f in found
        ],
    }


def versions(run: Run) -> dict[str, object]:
    """Return who measured, and what was measured as far as it tells."""
    page = run.page
    return {
        "measured_by": f"arriero {__version__}",
        "python": platform.python_version(),
        "system": platform.platform(),
        "gateway": f"arriero {page.version}" if page else _server(run.exchanges),
        "config_digest": page.config_digest if page else None,
        "backends": {b.name: f"{b.kind} {b.version or '?'}" for b in page.backends} if page else {},
    }


def _server(exchanges: Iterable[Exchange]) -> str | None:
    return next((e.headers["server"] for e in exchanges if "server" in e.headers), None)


def transcript(exchanges: Iterable[Exchange]) -> str:
    """Return every exchange as text in the order they were begun."""
    ordered = sorted(exchanges, key=lambda exchange: exchange.began_s)
    start_s = ordered[0].began_s if ordered else 0.0
    return "\n".join(_shown(exchange, start_s) for exchange in ordered)


def _shown(exchange: Exchange, start_s: float) -> str:
    at_s = exchange.began_s - start_s
    sent = [f"> {name}: {value}" for name, value in exchange.sent_headers.items()]
    received = [f"< {name}: {value}" for name, value in exchange.headers.items()]
    answer = exchange.error or f"{exchange.status}"
    lines = [
        f"=== {at_s:.3f} s  {exchange.method} {exchange.path}",
        *sent,
        *_body(">", exchange.sent_body),
        f"< {answer}  after {exchange.took_s:.3f} s",
        *received,
        *_body("<", exchange.body),
    ]
    return "\n".join(lines) + "\n"


def _body(mark: str, body: bytes) -> list[str]:
    text = body[:BODY_BYTES_SHOWN_MAX].decode(errors="replace")
    cut = len(body) - BODY_BYTES_SHOWN_MAX
    return [f"{mark}   {line}" for line in text.splitlines()] + (
        [f"{mark}   ... {cut} bytes more"] if cut > 0 else []
    )


def write(parent: Path, run: Run, found: Sequence[Finding], unix_s: float) -> Path:
    """Write the bundle into a new folder of `parent`, for its owner's eyes; return the folder."""
    moment = datetime.fromtimestamp(unix_s, UTC)
    files = {
        "results.json": _pretty(results(run, found) | {"at": moment.strftime(AT_FORMAT)}),
        "transcript.txt": transcript(run.exchanges).encode(),
        "versions.json": _pretty(versions(run)),
    }
    # A gateway may echo a key in its error; the last hand before the file blots it out again.
    whole = bundle.complete(bundle.blotted(files, run.plan.key))
    folder = _new_folder(parent, moment.strftime("%Y%m%dT%H%M%SZ"))
    bundle.put(folder, whole)
    return folder


def _pretty(document: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _new_folder(parent: Path, name: str) -> Path:
    """Make a folder that did not exist: evidence is added to, never written over."""
    parent.mkdir(parents=True, exist_ok=True)
    for count in range(NAMES_MAX):
        folder = parent / (f"{name}-{count}" if count else name)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{parent / name} and {NAMES_MAX - 1} more are there already")
