"""A bundle of evidence as files: its checksums, its page, and findings that others add to it.

What a gateway's clients see is half of an acceptance; units, ports and backends are seen on hosts.
`add` takes such findings into a bundle that `arriero smoke` wrote, and judges the whole anew.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

import msgspec

from arriero.app.smoke.finding import Finding, Outcome, outcome
from arriero.app.smoke.page import Picture, Section, Sheet, render

FILE_BYTES_MAX = 33_554_432
PICTURE_BYTES_MAX = 4_194_304
PNG = b"\x89PNG\r\n\x1a\n"
PICTURES = "pictures"
MANIFEST = "manifest.sha256"
PAGE = "report.html"
SUMMARY = "summary.md"
ADDED = "added.json"
CLIENTS = "What clients see"
WORDS = {
    Outcome.GO: "GO",
    Outcome.NO_GO: "NO-GO",
    Outcome.CANNOT_TELL: "CANNOT TELL",
}


class BundleError(ValueError):
    """The folder is no bundle that one could add to; the message says why."""


class Results(msgspec.Struct):
    """What results.json holds."""

    url: str
    at: str
    config_digest: str | None
    requests: int
    findings: list[Finding]


class Versions(msgspec.Struct):
    """What versions.json holds."""

    measured_by: str
    gateway: str | None
    backends: dict[str, str]


Files = Mapping[str, bytes]


def complete(files: Files, added: Sequence[Section] = ()) -> dict[str, bytes]:
    """Return the files of a bundle with its summary, its page and its manifest.

    `files` has at least results.json, versions.json and transcript.txt.
    """
    results = msgspec.json.decode(files["results.json"], type=Results)
    sections = [Section(CLIENTS, results.findings), *added]
    whole = dict(files) | {SUMMARY: _summary(results, sections).encode()}
    whole[PAGE] = render(_sheet(whole, results, sections)).encode()
    whole[MANIFEST] = "".join(f"{digest}  {n}\n" for n, digest in sums(whole).items()).encode()
    return whole


def sums(files: Files) -> dict[str, str]:
    """Return the checksum of each file, but for the manifest's own."""
    return {
        name: hashlib.sha256(content).hexdigest()
        for name, content in sorted(files.items())
        if name != MANIFEST
    }


def judged(sections: Iterable[Section]) -> Outcome:
    """Return what all sections come to."""
    return outcome(finding for section in sections for finding in section.findings)


def _sheet(files: Files, results: Results, sections: Sequence[Section]) -> Sheet:
    versions = msgspec.json.decode(files["versions.json"], type=Versions)
    known = sums({name: content for name, content in files.items() if name != PAGE})
    return Sheet(
        url=results.url,
        outcome=WORDS[judged(sections)],
        facts={
            "measured": f"{results.at} by {versions.measured_by}, {results.requests} requests",
            "gateway": versions.gateway or "did not tell its name",
            "configuration": results.config_digest or "not told by this gateway",
            **{f"backend {name}": version for name, version in versions.backends.items()},
        },
        sections=sections,
        pictures={n: c for n, c in files.items() if n.startswith(f"{PICTURES}/")},
        sums=known,
        transcript=files["transcript.txt"].decode(errors="replace"),
    )


def _summary(results: Results, sections: Sequence[Section]) -> str:
    """Return the page for people who read text: the outcome first, then every step."""
    digest = results.config_digest or "not told by this gateway"
    lines = [
        f"# Acceptance of {results.url}: {WORDS[judged(sections)]}",
        "",
        f"{results.at}, {results.requests} requests. Configuration: {digest}.",
    ]
    for section in sections:
        rows = [f"| {f.step} | {f.verdict.value} | {_cell(f)} |" for f in section.findings]
        rows += [f"\n![{shown.caption}]({shown.file})" for shown in section.pictures]
        lines += [
            "",
            f"## {section.title}",
            "",
            "| step | verdict | detail |",
            "|---|---|---|",
            *rows,
        ]
    return "\n".join(
        [
            *lines,
            "",
            "`sha256sum -c manifest.sha256` in this folder checks that nothing was changed since.",
            "",
        ]
    )


def _cell(finding: Finding) -> str:
    hint = f" hint: {finding.hint}" if finding.hint else ""
    return f"{finding.detail}{hint}".replace("|", "\\|").replace("\n", " ")


def spellings(secret: str) -> set[bytes]:
    """Return a secret as it may stand in text, in JSON and in HTML."""
    return {text.encode() for text in (secret, json.dumps(secret)[1:-1], escape(secret))}


def blotted(files: Files, secret: str) -> dict[str, bytes]:
    """Return the files without the secret."""
    clean = dict(files)
    for spelling in spellings(secret):
        clean = {name: content.replace(spelling, b"***") for name, content in clean.items()}
    return clean


def put(folder: Path, files: Files) -> None:
    """Write files into a folder for their owner's eyes, each in one step."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        draft = path.with_name(path.name + ".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        draft.replace(path)


def add(folder: Path, added: Sequence[Path], secret: str | None) -> Outcome:
    """Take findings from files into a bundle, write its pages anew, and return the whole outcome.

    Pictures that they name, as files beside them, are copied. Files that others have put into the
    folder since come under its checksums. A secret that stands in one of them is an error, as
    nobody would look for it there.
    """
    files = _read(folder)
    _check(files)
    found = [_section(path) for path in added]
    sections = [*_earlier(files), *(section for section, _ in found)]
    pictures = _together(pictures for _, pictures in found)
    files |= pictures
    own = {n: c for n, c in files.items() if n not in (MANIFEST, PAGE, SUMMARY, ADDED)}
    told = [name for name, content in own.items() if secret and _holds(content, secret)]
    if told:
        raise BundleError(f"the key stands in {', '.join(told)}")
    own[ADDED] = msgspec.json.format(msgspec.json.encode(sections), indent=2) + b"\n"
    own = blotted(own, secret) if secret else own
    whole = complete(own, msgspec.json.decode(own[ADDED], type=list[Section]))
    put(folder, {name: whole[name] for name in (*pictures, ADDED, SUMMARY, PAGE, MANIFEST)})
    return judged([Section(CLIENTS, _findings(files)), *sections])


def _holds(content: bytes, secret: str) -> bool:
    return any(spelling in content for spelling in spellings(secret))


def _read(folder: Path) -> dict[str, bytes]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    large = [path.name for path in paths if path.stat().st_size > FILE_BYTES_MAX]
    if large:
        raise BundleError(f"larger than {FILE_BYTES_MAX} bytes: {', '.join(large)}")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _check(files: Files) -> None:
    """Raise unless the files still are what their manifest says."""
    lines = files.get(MANIFEST, b"").decode(errors="replace").splitlines()
    promised = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if not promised or "results.json" not in promised:
        raise BundleError("there is no bundle of arriero smoke")
    known = sums(files)
    changed = [name for name, digest in promised.items() if known.get(name) != digest]
    if changed:
        raise BundleError(f"changed since it was written: {', '.join(changed)}")


def _findings(files: Files) -> list[Finding]:
    return msgspec.json.decode(files["results.json"], type=Results).findings


def _earlier(files: Files) -> list[Section]:
    content = files.get(ADDED)
    return msgspec.json.decode(content, type=list[Section]) if content else []


def _section(path: Path) -> tuple[Section, dict[str, bytes]]:
    """Return the findings of a file, and the pictures that they name, by names in a bundle."""
    try:
        section = msgspec.json.decode(path.read_bytes(), type=Section)
    except msgspec.DecodeError as wrong:
        raise BundleError(f"{path}: not findings: {wrong}") from wrong
    contents = {}
    pictures = []
    for picture in section.pictures:
        name = f"{PICTURES}/{Path(picture.file).name}"
        contents[name] = _picture(path.parent / picture.file)
        pictures.append(Picture(name, picture.caption))
    return Section(section.title, section.findings, pictures), contents


def _picture(path: Path) -> bytes:
    if path.stat().st_size > PICTURE_BYTES_MAX:
        raise BundleError(f"{path}: larger than {PICTURE_BYTES_MAX} bytes")
    content = path.read_bytes()
    if not content.startswith(PNG):
        raise BundleError(f"{path}: no PNG")
    return content


def _together(found: Iterable[Mapping[str, bytes]]) -> dict[str, bytes]:
    """Return all pictures; two different ones of one name are an error."""
    whole: dict[str, bytes] = {}
    for pictures in found:
        for name, content in pictures.items():
            if whole.setdefault(name, content) != content:
                raise BundleError(f"two pictures are named {Path(name).name}")
    return whole
