"""An Open WebUI to test with, real or simulated: its address, its accounts, its user's view."""

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.webui.fake_openwebui import ADMIN, PASSWORD

START_TIMEOUT_S = 50.0
STOP_TIMEOUT_S = 20.0


@dataclass
class Site:
    """One Open WebUI, and calls of its API that are not those under test."""

    url: str
    real: bool
    tokens: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, body: object = None, token: str = "") -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=50) as answer:
            return json.loads(answer.read())

    def token(self, email: str = ADMIN, password: str = PASSWORD) -> str:
        """Sign in, once for each account: Open WebUI lets nobody do so often."""
        if email not in self.tokens:
            body = {"email": email, "password": password}
            self.tokens[email] = self.call("POST", "/api/v1/auths/signin", body)["token"]
        return self.tokens[email]

    def admin(self, method: str, path: str, body: object = None) -> Any:
        return self.call(method, path, body, self.token())

    def add_user(self, email: str) -> None:
        body = {"name": email, "email": email, "password": "pw-user-12345", "role": "user"}
        self.admin("POST", "/api/v1/auths/add", body)

    def as_user(self, email: str) -> "View":
        return View(self, self.token(email, "pw-user-12345"))


@dataclass
class View:
    """What one person who is no administrator gets."""

    site: Site
    token: str

    def models(self) -> list[str]:
        listed = self.site.call("GET", "/api/models", token=self.token)
        return [model["id"] for model in listed["data"]]

    def default(self) -> str | None:
        found: str | None = self.site.call("GET", "/api/config", token=self.token)["default_models"]
        return found

    def ask(self, model: str, question: str = "Hello!") -> str:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": 12,
            "stream": False,
        }
        try:
            answer = self.site.call("POST", "/api/chat/completions", body, self.token)
        except urllib.error.HTTPError as wrong:
            with wrong:
                return f"{wrong.code} {wrong.read().decode()}"
        text = answer["choices"][0]["message"]["content"]
        assert isinstance(text, str)
        return text


def settings(folder: Path, ollama: str) -> dict[str, str]:
    """Return the environment of an Open WebUI that looks nothing up anywhere."""
    return {
        "ANONYMIZED_TELEMETRY": "false",
        "DATA_DIR": str(folder),
        "DO_NOT_TRACK": "true",
        "ENABLE_OLLAMA_API": "true",
        "ENABLE_OPENAI_API": "false",
        "ENABLE_VERSION_UPDATE_CHECK": "false",
        "HF_HUB_OFFLINE": "1",
        "HOME": str(folder),
        "OFFLINE_MODE": "true",
        "OLLAMA_BASE_URLS": ollama,
        "PATH": os.environ["PATH"],
        "RAG_EMBEDDING_ENGINE": "openai",
        "SCARF_NO_ANALYTICS": "true",
        "USE_SLIM_DOCKER": "true",
        "WEBUI_ADMIN_EMAIL": ADMIN,
        "WEBUI_ADMIN_PASSWORD": PASSWORD,
        "WEBUI_SECRET_KEY": "a-secret-of-the-tests",
    }


@contextmanager
def real_site(environment: Path, folder: Path, port: int, ollama: str) -> Iterator[Site]:
    """Run the real Open WebUI of a virtual environment while the block runs."""
    folder.mkdir()
    command = [
        str(environment / "bin/open-webui"),
        "serve",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    log = folder / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            env=settings(folder, ollama),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as running,
    ):
        try:
            site = Site(f"http://127.0.0.1:{port}", real=True)
            wait_until_it_answers(site, running, log)
            yield site
        finally:
            running.terminate()
            try:
                running.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                running.kill()


def wait_until_it_answers(site: Site, running: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for the first answer; it takes ten seconds to start."""
    for _ in range(int(START_TIMEOUT_S / 0.2)):
        try:
            site.call("GET", "/api/version")
        except OSError:
            try:
                running.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(log.read_text()[-4000:]) from None
        else:
            return
    raise AssertionError(log.read_text()[-4000:])
