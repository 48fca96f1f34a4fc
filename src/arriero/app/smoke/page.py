"""The acceptance as one page for people: everything in it, nothing from elsewhere, fit to print.

Whoever signs for a gateway gets this one file by mail. So it loads nothing: the content security
policy in it lets no browser fetch anything, pictures are in the page, and there is no script.
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import msgspec

from arriero.app.smoke.finding import Finding, Verdict

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
TRANSCRIPT_CHARS_MAX = 200_000

STYLE = """
:root { color-scheme: light dark; --line: #8886; --good: #1a7f37; --bad: #c62828; --dim: #777;
  --odd: #b26a00 }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
.outcome { font-size: 2rem; font-weight: 700; margin: .5rem 0 }
.go, .pass { color: var(--good) } .no-go, .fail { color: var(--bad); font-weight: 600 }
.not-measured { color: var(--dim) } .cannot-tell, .known-fault { color: var(--odd) }
table { border-collapse: collapse; width: 100% }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .6rem .35rem 0; text-align: left;
  vertical-align: top; overflow-wrap: anywhere }
th:first-child, td:first-child { width: 14rem }
td:nth-child(2) { white-space: nowrap; width: 7rem }
figure { margin: 1rem 0 } img { max-width: 100%; border: 1px solid var(--line) }
.hint { color: var(--dim); display: block }
pre { font-size: 12px; white-space: pre-wrap; overflow-wrap: anywhere }
@media print { body { margin: 0; max-width: none; font-size: 11px } tr { break-inside: avoid }
  details > pre { display: block } }
"""


class Picture(msgspec.Struct, frozen=True):
    """A picture of what was found: a PNG file, and words for those who cannot see it."""

    file: str
    caption: str


class Section(msgspec.Struct, frozen=True, omit_defaults=True):
    """Findings that were made at one place: by requests, on a host, in a browser."""

    title: str
    findings: list[Finding]
    pictures: list[Picture] = []


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """What the page shows."""

    url: str
    outcome: str
    facts: Mapping[str, str]
    sections: Sequence[Section]
    sums: Mapping[str, str]
    transcript: str
    pictures: Mapping[str, bytes] = {}


def render(sheet: Sheet) -> str:
    """Return the page as HTML."""
    title = f"Acceptance of {sheet.url}: {sheet.outcome}"
    shown = sheet.transcript[:TRANSCRIPT_CHARS_MAX]
    cut = "\n... the rest is in transcript.txt" if len(shown) < len(sheet.transcript) else ""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>Acceptance of {escape(sheet.url)}</h1>",
        f'<p class="outcome {_class(sheet.outcome)}">{escape(sheet.outcome)}</p>',
        _facts(sheet.facts),
        *(_section(section, sheet.pictures) for section in sheet.sections),
        "<h2>Files of this bundle</h2>",
        _table(
            ("file", "", "SHA-256"), ((name, "", digest) for name, digest in sheet.sums.items())
        ),
        f"<h2>Transcript</h2><details><summary>{len(sheet.transcript)} characters</summary>",
        f"<pre>{escape(shown + cut)}</pre></details>",
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _class(words: str) -> str:
    return words.lower().replace(" ", "-")


def _facts(facts: Mapping[str, str]) -> str:
    rows = (
        f"<tr><td>{escape(n)}</td><td colspan=2>{escape(v)}</td></tr>" for n, v in facts.items()
    )
    return f"<table>{''.join(rows)}</table>"


def _section(section: Section, pictures: Mapping[str, bytes]) -> str:
    counts = dict.fromkeys(Verdict, 0)
    for finding in section.findings:
        counts[finding.verdict] += 1
    told = ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items() if count)
    rows = "".join(_row(finding) for finding in section.findings)
    shown = "".join(_figure(picture, pictures[picture.file]) for picture in section.pictures)
    return (
        f"<h2>{escape(section.title)}</h2><p>{told or 'nothing'}</p>"
        f"<table><tr><th>step</th><th>verdict</th><th>detail</th></tr>{rows}</table>{shown}"
    )


def _figure(picture: Picture, content: bytes) -> str:
    data = b64encode(content).decode("ascii")
    caption = escape(picture.caption)
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{caption}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _row(finding: Finding) -> str:
    verdict = finding.verdict.value
    hint = f'<span class="hint">hint: {escape(finding.hint)}</span>' if finding.hint else ""
    return (
        f"<tr><td>{escape(finding.step)}</td>"
        f'<td class="{_class(verdict)}">{verdict}</td>'
        f"<td>{escape(finding.detail)}{hint}</td></tr>"
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in head)}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"
