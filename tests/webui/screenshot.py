#!/usr/bin/env python3
"""Chat with Open WebUI in a headless browser and keep a picture of it, as evidence.

    python3 tests/webui/screenshot.py --webui http://127.0.0.1:8080 --email ann@example.com \
        --password-file password --model gw.smollm2 --question "..." --picture chat.png

Signs in by the form, chooses the model, sends the question, waits until the answer is whole, takes
the picture, and prints the answer; --findings writes what `arriero report --add` reads, so that an
acceptance shows both. Needs Debian's chromium and chromium-driver and nothing but
Python's standard library, so it can be copied to any host. Exit codes: 0 answered, 1 not answered,
3 no browser.
"""

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

# The browser must reach nothing but the page: no look-ups of its own, no QUIC, no first-run pages.
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1280,900",
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # W3C WebDriver, 12.1
ENTER = "\ue007"  # W3C WebDriver, 17.4.2
STEP_S = 0.25

# The answer is whole when Open WebUI shows the buttons below it, to copy or to rate it. The list of
# what is new and other dialogues of a first visit are closed on the way.
ANSWER = """
document.querySelectorAll('[role="dialog"] button, .modal button').forEach(b => {
  if (/got it|okay|let's go/i.test(b.innerText)) b.click();
});
const all = [...document.querySelectorAll('.chat-assistant')];
const last = all[all.length - 1];
if (!last) return null;
const whole = document.querySelector('.copy-response-button') !== null;
return whole ? last.innerText.trim() : null;
"""


class NoBrowser(Exception):
    """There is no browser to drive, or it does not start."""


class Page:
    """One session of WebDriver (W3C), which is JSON over HTTP."""

    def __init__(self, driver: str, session: str) -> None:
        self._base = f"{driver}/session/{session}"

    def call(self, method: str, path: str, body: object = None) -> Any:
        return request(method, self._base + path, body)

    def go(self, url: str) -> None:
        self.call("POST", "/url", {"url": url})

    def run(self, script: str) -> Any:
        return self.call("POST", "/execute/sync", {"script": script, "args": []})

    def find(self, css: str) -> str | None:
        try:
            found = self.call("POST", "/element", {"using": "css selector", "value": css})
        except urllib.error.HTTPError as wrong:
            wrong.close()
            return None
        element: str = found[ELEMENT]
        return element

    def type(self, element: str, text: str) -> None:
        self.call("POST", f"/element/{element}/value", {"text": text})

    def picture(self) -> bytes:
        return base64.b64decode(self.call("GET", "/screenshot"))


def request(method: str, url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    asked = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(asked, timeout=120) as answer:
        return json.loads(answer.read())["value"]


@contextmanager
def browser() -> Iterator[Page]:
    """Run a headless Chromium with a profile of its own while the block runs."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        raise NoBrowser("no chromium and chromedriver: apt install chromium chromium-driver")
    # Chromium writes on for a moment after it was told to end.
    with (
        tempfile.TemporaryDirectory(prefix="arriero-browser-", ignore_cleanup_errors=True) as home,
        subprocess.Popen(
            [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as running,
    ):
        try:
            base = f"http://127.0.0.1:{driver_port(running)}"
            options = {"binary": chromium, "args": [*FLAGS, f"--user-data-dir={home}"]}
            wanted = {"browserName": "chrome", "goog:chromeOptions": options}
            body = {"capabilities": {"alwaysMatch": wanted}}
            session = request("POST", f"{base}/session", body)["sessionId"]
            page = Page(base, session)
            try:
                yield page
            finally:
                page.call("DELETE", "")
        finally:
            running.terminate()


def driver_port(running: subprocess.Popen[str]) -> int:
    """Return the port that chromedriver says it took."""
    assert running.stdout
    for line in running.stdout:
        if "successfully on port " in line:
            return int(line.rpartition("on port ")[2].strip().rstrip("."))
    raise NoBrowser("chromedriver did not start")


def until(found: Callable[[], Any], what: str, deadline_s: float) -> Any:
    """Return what is found, once it is."""
    while time.monotonic() < deadline_s:
        if value := found():
            return value
        time.sleep(STEP_S)
    raise TimeoutError(what)


def chat(page: Page, asked: argparse.Namespace, password: str) -> str:
    """Sign in, ask, and return the answer; the picture is taken in any case."""
    deadline_s = time.monotonic() + asked.timeout
    address = asked.webui.rstrip("/")
    try:
        page.go(f"{address}/auth")
        email = until(lambda: page.find("input[type=email]"), "no form to sign in", deadline_s)
        page.type(email, asked.email)
        page.type(page.find("input[type=password]") or "", password + ENTER)
        token = "return localStorage.token || null"
        until(lambda: page.run(token), "signing in failed", deadline_s)
        page.go(f"{address}/?models={quote(asked.model)}")
        box = until(lambda: page.find("#chat-input"), "no box to write in", deadline_s)
        chosen = f"return document.body.innerText.includes({json.dumps(asked.shown)})"
        until(lambda: page.run(chosen), f"{asked.shown} is not offered", deadline_s)
        page.type(box, asked.question + ENTER)
        answer: str = until(lambda: page.run(ANSWER), "no whole answer", deadline_s)
        return answer
    finally:
        asked.picture.write_bytes(page.picture())


def findings(asked: argparse.Namespace, verdict: str, detail: str) -> dict[str, Any]:
    """Return what happened in the form of `arriero report --add`."""
    row = {"step": "a chat in a browser", "verdict": verdict, "detail": detail, "hint": None}
    picture = {
        "file": os.path.relpath(asked.picture, asked.findings.parent),
        "caption": f"{asked.email} asks {asked.model}: {asked.question}",
    }
    return {
        "title": "Open WebUI's canary in a browser",
        "findings": [row],
        "pictures": [picture],
    }


def keep(asked: argparse.Namespace, verdict: str, detail: str) -> None:
    """Write what happened, if that is wanted."""
    if asked.findings:
        asked.findings.write_text(json.dumps(findings(asked, verdict, detail), indent=2) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    add = parser.add_argument
    add("--webui", required=True, metavar="URL")
    add("--email", required=True)
    add("--password-file", required=True, type=Path)
    add("--model", required=True, help="as Open WebUI names it, with the prefix")
    add("--shown", help="the model's name on the page; without it, --model without its prefix")
    add("--question", default="What is the capital of France?")
    add("--picture", required=True, type=Path, metavar="FILE")
    add("--findings", type=Path, metavar="FILE", help="also as JSON for arriero report --add")
    add("--timeout", type=float, default=120.0, metavar="SECONDS")
    asked = parser.parse_args()
    asked.shown = asked.shown or asked.model.partition(".")[2] or asked.model
    try:
        with browser() as page:
            answer = chat(page, asked, asked.password_file.read_text().strip())
    except NoBrowser as wrong:
        sys.stderr.write(f"error: {wrong}\n")
        return 3
    except TimeoutError as wrong:
        keep(asked, "fail", str(wrong))
        sys.stderr.write(f"error: {wrong}\nhint: look at {asked.picture}\n")
        return 1
    keep(asked, "pass", f"{asked.model} was asked {asked.question!r} and answered {answer!r}")
    sys.stdout.write(f"{answer}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
