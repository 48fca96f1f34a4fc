"""Open WebUI's accounts, through its API: what a person would do in its pages."""

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.hosts import DOMAIN, WEBUI
from lab.problems import LabProblem
from lab.webui import ADMIN

READY_TIMEOUT_S = 120.0
CALL_TIMEOUT_S = 180.0
TOKENS_MAX = 24  # the small model may not find an end by itself
ANN = f"ann@{DOMAIN}"
BOB = f"bob@{DOMAIN}"


@dataclass(frozen=True)
class Person:
    """An account and how it is proved."""

    email: str
    token: str


class OpenWebui:
    """The Open WebUI of the lab."""

    def __init__(self, keys: Path) -> None:
        self._url = f"http://{WEBUI.address}:8080"
        self.password_file = keys / "webui-password"

    def wait(self) -> float:
        """Wait until it is up; return how long that took, in seconds."""
        began = time.monotonic()
        while time.monotonic() < began + READY_TIMEOUT_S:
            try:
                self._call("GET", "/health")
            except (OSError, ValueError):
                time.sleep(0.5)
            else:
                return time.monotonic() - began
        raise LabProblem(f"{WEBUI.name} did not answer within {READY_TIMEOUT_S:g} s")

    def sign_in(self, email: str) -> Person:
        """Sign in; everybody in the lab has the same password."""
        body = {"email": email, "password": self._password}
        return Person(email, self._call("POST", "/api/v1/auths/signin", body)["token"])

    def administrator(self) -> Person:
        """Sign the administrator in, whom the service makes at its first start."""
        return self.sign_in(ADMIN)

    def add(self, administrator: Person, email: str) -> None:
        """Give a person an account, unless it is there."""
        listed = self._call("GET", "/api/v1/users/all", person=administrator)["users"]
        if email not in [user["email"] for user in listed]:
            body = {"name": email.partition("@")[0], "email": email, "role": "user"}
            body["password"] = self._password
            self._call("POST", "/api/v1/auths/add", body, administrator)

    def models(self, person: Person) -> list[str]:
        """Return what a person can choose."""
        listed = self._call("GET", "/api/models", person=person)["data"]
        return [str(model["id"]) for model in listed]

    def default(self, person: Person) -> str:
        """Return what a person finds chosen."""
        return str(self._call("GET", "/api/config", person=person)["default_models"] or "")

    def chat(self, person: Person, model: str, question: str) -> str:
        """Ask a model something, as its page does."""
        messages = [{"role": "user", "content": question}]
        body = {"model": model, "messages": messages, "stream": False, "max_tokens": TOKENS_MAX}
        answer = self._call("POST", "/api/chat/completions", body, person)
        return str(answer["choices"][0]["message"]["content"])

    @property
    def _password(self) -> str:
        return self.password_file.read_text(encoding="utf-8")

    def _call(
        self, method: str, path: str, body: object = None, person: Person | None = None
    ) -> Any:
        headers = {"Content-Type": "application/json"}
        if person is not None:
            headers["Authorization"] = f"Bearer {person.token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=CALL_TIMEOUT_S) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as wrong:
            with wrong:
                said = wrong.read().decode(errors="replace")[:500]
            raise LabProblem(f"{method} {path}: {wrong.code} {said}") from None
