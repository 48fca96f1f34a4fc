"""No secret is anywhere but in the answer that shows it once.

A whole service as a process, asked in every way with secrets in every place that takes one;
afterwards everything that it wrote and said, and the arguments of every process, are searched.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.processes import KEY, simulated_ollama, write_config

OWN = "sk-own-secret-0123456789"
ROTATED = "sk-rotated-secret-0123456789"
WRONG = "sk-nobodys-secret-0123456789"
PASSWORD = "a-password-of-the-store"
STOP_TIMEOUT_S = 20.0
PAGES = ("/audit", "/key/list?return_full_object=true", "/usage/requests", "/metrics",
         "/arriero/status")  # fmt: skip


class Service:
    """`arriero serve` with a store, whose every word goes to files in one folder."""

    def __init__(self, folder: Path, backend: str) -> None:
        self.folder = folder
        store = {"url": f"sqlite:///{folder}/arriero.db"}
        log = {"access": str(folder / "access.log"), "level": "debug"}
        config = write_config(folder, [backend], {"llama": "llama3:8b"}, store=store, log=log)
        self._events = (folder / "events.log").open("wb")
        command = [sys.executable, "-m", "arriero", "serve", "-c", str(config), "--port", "0"]
        self.process = subprocess.Popen(command, stderr=self._events, stdout=self._events)
        self.url = self._listening()
        self.errors: list[str] = []

    def _listening(self) -> str:
        limit_s = time.monotonic() + 30
        while time.monotonic() < limit_s:
            for line in (self.folder / "events.log").read_bytes().splitlines():
                event = json.loads(line)
                if event["event"] == "listening":
                    return f"http://127.0.0.1:{event['port']}"
            time.sleep(0.02)
        raise AssertionError("it never listened")

    def ask(self, method: str, path: str, body: object = None, key: str = KEY) -> int:
        """Send a request; what an error says is kept."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                status: int = answer.status
                return status
        except urllib.error.HTTPError as error:
            with error:
                self.errors.append(error.read().decode() + str(error.headers))
            return error.code

    def read(self, path: str) -> str:
        request = urllib.request.Request(
            self.url + path, headers={"Authorization": f"Bearer {KEY}"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            content: bytes = answer.read()
        return content.decode()

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(STOP_TIMEOUT_S) == 0
        self._events.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with simulated_ollama("llama3:8b") as backend:
        service = Service(tmp_path, backend)
        try:
            yield service
        finally:
            if service.process.poll() is None:
                service.stop()


def use_every_secret_everywhere(service: Service) -> None:
    ask = service.ask
    chat = {"model": "llama", "messages": [{"role": "user", "content": "x"}]}
    assert ask("POST", "/key/generate", {"key": OWN, "key_alias": "own"}) == 200
    assert ask("POST", "/v1/chat/completions", chat, key=OWN) == 200
    for secret in (OWN, WRONG, KEY):
        ask("POST", "/key/generate", {"key": secret})
        ask("POST", "/key/generate", {"key_alias": secret})
        ask("POST", "/key/generate", {"models": secret, "metadata": secret, secret: secret})
        ask("POST", "/key/generate", {"duration": secret, "allowed_routes": [secret]})
        ask("POST", "/key/update", {"key": secret, "rpm_limit": 5})
        ask("GET", f"/key/info?key={secret}")
        ask("GET", f"/key/info?{secret}={secret}")
        ask("GET", f"/key/{secret}")
        ask("GET", f"/usage?key={secret}")
        ask("GET", f"/audit?key={secret}")
        ask("POST", "/v2/key/info", {"keys": [secret]})
        ask("POST", "/key/block", {"key": secret})
        ask("POST", "/key/unblock", {"key": secret})
        ask("POST", f"/key/{secret}/regenerate", {"new_key": "sk-short"})
        ask("POST", "/key/delete", {"keys": [secret, "nobody"]})
        ask("GET", "/key/list", key=secret)
        ask("GET", f"/v1/models/{secret}", key="sk-never-made-0123456789")
    assert ask("POST", f"/key/{OWN}/regenerate", {"new_key": ROTATED, "grace_period": "1h"}) == 200
    assert ask("POST", "/v1/chat/completions", chat, key=ROTATED) == 200
    assert ask("POST", "/key/delete", {"keys": [ROTATED]}) == 200
    assert ask("GET", "/v1/models", key=ROTATED) == 401


def test_secrets_are_in_no_log_no_error_no_audit_and_no_file(service: Service) -> None:
    use_every_secret_everywhere(service)
    pages = [service.read(path) for path in PAGES]
    service.stop()
    said = {"errors": "\n".join(service.errors), "pages": "\n".join(pages)}
    written = {
        path.name: path.read_bytes().decode("latin-1")
        for path in service.folder.iterdir()
        if path.name != "config.yaml"  # holds the master key, as it must
    }
    assert len(service.errors) > 30
    assert "access.log" in written
    assert "/key/***/regenerate" in written["access.log"]
    for secret in (OWN, ROTATED, WRONG, KEY):
        for name, text in (said | written).items():
            at = text.find(secret)
            assert at < 0, f"{name}: ...{text[max(0, at - 80) : at + 80]}..."


def arguments() -> dict[int, str]:
    """Return the command lines of this user's processes, as `ps` shows them to everybody."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found[int(entry.name)] = (entry / "cmdline").read_bytes().decode("latin-1")
            except OSError:
                continue  # it has ended
    return found


def test_secrets_are_in_no_arguments(service: Service, tmp_path: Path) -> None:
    environment = os.environ | {"ARRIERO_API_KEY": KEY, "ARRIERO_URL": service.url}
    url = f"postgresql://somebody:{PASSWORD}@127.0.0.1:1/none"
    runs = [
        (["keys", "create", "--own-secret"], {}, f"{OWN}\n"),
        (["keys", "show", "-"], {}, f"{OWN}\n"),
        (["keys", "list"], {"ARRIERO_STORE": f"sqlite:///{tmp_path}/arriero.db"}, ""),
        (["store", "migrate"], {"ARRIERO_STORE": url}, ""),
        (["store", "migrate"], {"ARRIERO_STORE": f"sqlite:///{tmp_path}/new.db"}, ""),
    ]
    seen: list[str] = []
    for words, more, text in runs:
        command = [sys.executable, "-m", "arriero", *words]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment | more,
        ) as running:
            assert running.stdin
            assert running.stdout
            running.stdin.write(text.encode())
            running.stdin.close()
            while running.poll() is None:
                seen += arguments().values()
                time.sleep(0.005)
            said = running.stdout.read().decode()
        assert PASSWORD not in said
        assert KEY not in said
    assert any("arriero\x00keys" in one for one in seen)
    assert any("arriero.store.migrate" in one for one in seen)
    for secret in (KEY, OWN, PASSWORD):
        assert not [one for one in seen if secret in one]
