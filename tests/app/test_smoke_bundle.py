"""A bundle of evidence: its page, its checksums, and findings added to it."""

import base64
import hashlib
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.app.smoke import bundle, page
from arriero.app.smoke.finding import Finding, Outcome, Verdict

SECRET = 'sk-a"key&more<'


def files(**more: Any) -> dict[str, bytes]:
    results = {
        "url": "http://gateway:4000",
        "at": "2025-01-31 23:59:59 UTC",
        "config_digest": None,
        "requests": 2,
        "findings": [
            {"step": "models", "verdict": "pass", "detail": "a, b", "hint": None},
            {"step": "fan-out a", "verdict": "not measured", "detail": "no counters", "hint": None},
        ],
    } | more
    versions = {"measured_by": "arriero 0.1.0", "gateway": "uvicorn", "backends": {"one": "x 1"}}
    return {
        "results.json": json.dumps(results).encode(),
        "versions.json": json.dumps(versions).encode(),
        "transcript.txt": b"=== 0.000 s  GET /v1/models\n",
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    bundle.put(tmp_path, bundle.complete(files()))
    return tmp_path


def findings_file(path: Path, *findings: dict[str, Any], title: str = "On the hosts") -> Path:
    path.write_text(json.dumps({"title": title, "findings": findings}))
    return path


def finding(step: str = "unit", verdict: str = "pass", **more: Any) -> dict[str, Any]:
    return {"step": step, "verdict": verdict, "detail": "active"} | more


def holds(folder: Path) -> bool:
    check = ["sha256sum", "--check", "--strict", "--quiet", "manifest.sha256"]
    return subprocess.run(check, cwd=folder, check=False, capture_output=True).returncode == 0


class Reader(HTMLParser):
    """Collects what a browser would load, and the text it would show."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [f"{tag} {name}" for name, _ in attrs if name in {"src", "href", "data"}]
        if tag in {"script", "link", "img", "iframe", "object"}:
            self.loads.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


def test_the_page_has_every_step_and_loads_nothing(folder: Path) -> None:
    html = (folder / "report.html").read_text()
    seen = read(html)
    assert seen.loads == []
    assert "url(" not in html
    assert "@import" not in html
    for words in ("models", "a, b", "fan-out a", "not measured", "uvicorn", "GET /v1/models"):
        assert words in seen.text
    assert "@media print" in html
    assert re.search(r'class="outcome go">GO<', html)


def test_the_page_names_the_files_and_their_checksums(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    for name in ("results.json", "transcript.txt", "versions.json", "summary.md"):
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() in text


def test_the_manifest_covers_all_but_itself(folder: Path) -> None:
    assert holds(folder)
    listed = {line.split("  ")[1] for line in (folder / "manifest.sha256").read_text().splitlines()}
    assert listed == {path.name for path in folder.iterdir()} - {"manifest.sha256"}


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_no_words_become_markup(step: str, detail: str, hint: str) -> None:
    sheet = page.Sheet(
        url=step,
        outcome="GO",
        facts={detail: hint},
        sections=[page.Section(hint, [Finding(step, Verdict.FAIL, detail, hint)])],
        sums={step: detail},
        transcript=detail,
    )
    tags = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "table", "tr", "td"}
    tags |= {"th", "span", "pre", "details", "summary"}
    seen: set[str] = set()

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
            seen.add(tag)

    Tags().feed(page.render(sheet))
    assert seen <= tags


def test_a_long_transcript_is_cut_and_says_so() -> None:
    long = files() | {"transcript.txt": b"x" * (page.TRANSCRIPT_CHARS_MAX + 1)}
    html = bundle.complete(long)["report.html"].decode()
    assert "the rest is in transcript.txt" in html
    assert len(html) < page.TRANSCRIPT_CHARS_MAX + 20_000


def test_findings_of_hosts_count(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    added = tmp_path_factory.mktemp("added")
    good = findings_file(added / "good.json", finding())
    assert bundle.add(folder, [good], None) is Outcome.GO
    bad = findings_file(added / "bad.json", finding("port", "fail", hint="open it"), title="Port")
    assert bundle.add(folder, [bad], None) is Outcome.NO_GO
    assert holds(folder)
    text = read((folder / "report.html").read_text()).text
    for words in ("What clients see", "On the hosts", "Port", "hint: open it", "NO-GO"):
        assert words in text
    summary = (folder / "summary.md").read_text()
    assert summary.startswith("# Acceptance of http://gateway:4000: NO-GO\n")
    assert "| port | fail | active hint: open it |" in summary


def test_files_that_others_put_there_come_under_the_checksums(folder: Path) -> None:
    (folder / "hosts").mkdir()
    (folder / "hosts" / "ss.txt").write_text("ESTAB")
    assert bundle.add(folder, [], None) is Outcome.GO
    assert "  hosts/ss.txt\n" in (folder / "manifest.sha256").read_text()
    assert holds(folder)


def test_what_was_changed_is_not_added_to(folder: Path) -> None:
    (folder / "results.json").write_bytes(b"{}")
    with pytest.raises(bundle.BundleError, match=r"changed since it was written: results\.json"):
        bundle.add(folder, [], None)


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(bundle.BundleError, match="no bundle"):
        bundle.add(tmp_path, [], None)


@pytest.mark.parametrize("content", ["", "[]", '{"title": "x", "findings": [{"step": "x"}]}'])
def test_what_is_no_finding(folder: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "wrong.txt").write_text(content)
    with pytest.raises(bundle.BundleError, match="not findings"):
        bundle.add(folder, [tmp_path / "wrong.txt"], None)
    assert holds(folder)


def test_a_file_too_large(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "FILE_BYTES_MAX", 10)
    with pytest.raises(bundle.BundleError, match="larger than 10 bytes"):
        bundle.add(folder, [], None)


def test_a_key_in_a_host_s_file_is_told(folder: Path) -> None:
    (folder / "journal.txt").write_text(f"started with {SECRET}")
    with pytest.raises(bundle.BundleError, match=r"the key stands in journal\.txt"):
        bundle.add(folder, [], SECRET)


def test_a_key_in_a_finding_is_blotted_out(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    leak = finding(detail=f"said {SECRET}")
    added = findings_file(tmp_path_factory.mktemp("added") / "leak.json", leak)
    bundle.add(folder, [added], SECRET)
    for path in folder.iterdir():
        assert not [s for s in bundle.spellings(SECRET) if s in path.read_bytes()], path.name
    assert "said ***" in (folder / "report.html").read_text()


def test_a_key_is_blotted_out_of_json_and_html() -> None:
    written = files(url=f"http://{SECRET}")
    whole = bundle.complete(bundle.blotted(written, SECRET))
    for name, content in whole.items():
        assert not [s for s in bundle.spellings(SECRET) if s in content], name


def test_nobody_else_may_read_it(folder: Path) -> None:
    bundle.add(folder, [], None)
    assert {path.stat().st_mode & 0o077 for path in folder.iterdir()} == {0}


PNG = b"\x89PNG\r\n\x1a\n" + b"picture" * 9


def with_picture(path: Path, file: str = "chat.png", content: bytes = PNG) -> Path:
    path.parent.mkdir(exist_ok=True)
    (path.parent / file).write_bytes(content)
    pictures = [{"file": file, "caption": "Ann asks <gw.phi3>"}]
    path.write_text(json.dumps({"title": "canary", "findings": [finding()], "pictures": pictures}))
    return path


def test_a_picture_is_in_the_page_and_under_the_checksums(folder: Path, tmp_path: Path) -> None:
    added = with_picture(tmp_path.parent / f"{tmp_path.name}-beside" / "canary.json")
    assert bundle.add(folder, [added], SECRET) is Outcome.GO
    assert (folder / "pictures/chat.png").read_bytes() == PNG
    assert holds(folder)
    assert "pictures/chat.png" in (folder / "manifest.sha256").read_text()
    html = (folder / "report.html").read_text()
    data = base64.b64encode(PNG).decode()
    assert f'<img src="data:image/png;base64,{data}" alt="Ann asks &lt;gw.phi3&gt;">' in html
    assert "img-src data:" in html
    assert "![Ann asks <gw.phi3>](pictures/chat.png)" in (folder / "summary.md").read_text()
    # Whoever adds more later keeps it.
    bundle.add(folder, [], SECRET)
    assert data in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"GIF89a", "no PNG"),
        (PNG + b"x" * bundle.PICTURE_BYTES_MAX, "larger than"),
        (PNG + SECRET.encode(), "the key stands in pictures/chat.png"),
    ],
)
def test_what_is_no_picture_is_refused(
    folder: Path, tmp_path: Path, content: bytes, words: str
) -> None:
    beside = tmp_path.parent / f"{tmp_path.name}-beside"
    added = with_picture(beside / "canary.json", content=content)
    with pytest.raises(bundle.BundleError, match=words):
        bundle.add(folder, [added], SECRET)
    assert not (folder / "pictures").exists()
    assert holds(folder)


def test_two_pictures_of_one_name_are_refused(folder: Path, tmp_path: Path) -> None:
    first = with_picture(tmp_path.parent / f"{tmp_path.name}-one" / "canary.json")
    second = with_picture(tmp_path.parent / f"{tmp_path.name}-two" / "b.json", content=PNG + b"2")
    with pytest.raises(bundle.BundleError, match=r"two pictures are named chat\.png"):
        bundle.add(folder, [first, second], None)
