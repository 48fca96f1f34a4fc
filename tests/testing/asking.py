"""One Ollama under test: the simulation, or with ARRIERO_TEST_OLLAMA=URL a real one.

ARRIERO_TEST_OLLAMA_MODEL names the chat model to prefer there; tests for whose kind of model the
host has none are skipped. Only models that are already installed are used, and nothing is changed
but what is loaded.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2 as httpx
import pytest

from arriero.testing.ollama import SimModel

REAL = os.environ.get("ARRIERO_TEST_OLLAMA", "").rstrip("/")
PREFERRED = os.environ.get("ARRIERO_TEST_OLLAMA_MODEL", "")
MODELS = [
    SimModel("llama3:8b", capabilities=("completion",)),
    SimModel("qwen3:8b", capabilities=("completion", "tools", "thinking"), family="qwen3"),
    SimModel("nomic-embed-text", capabilities=("embedding",), family="nomic-bert"),
    SimModel("llava", capabilities=("completion", "vision")),
]
USER = [{"role": "user", "content": "Say hello."}]
SHORT = {"num_predict": 8, "seed": 1, "temperature": 0, "num_ctx": 2048}
DETAILS = {
    "parent_model",
    "format",
    "family",
    "families",
    "parameter_size",
    "quantization_level",
}
METRICS = {
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
}


@dataclass
class Answer:
    """One whole HTTP answer."""

    status: int
    type: str
    text: str
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def events(self) -> list[Any]:
        """The server-sent events, `[DONE]` as it is."""
        found = [part.removeprefix("data: ") for part in self.text.split("\n\n") if part]
        return [data if data == "[DONE]" else json.loads(data) for data in found]

    @property
    def error(self) -> str:
        return str(self.json["error"])

    @property
    def said(self) -> str:
        """The streamed text of `/api/chat`."""
        return "".join(line["message"]["content"] for line in self.lines)


@dataclass
class Host:
    """The Ollama under test; `found` maps a kind of model to an installed one."""

    client: httpx.AsyncClient
    found: dict[str, str] = field(default_factory=dict)

    async def ask(self, method: str, path: str, body: object = None) -> Answer:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        response = await self.client.request(method, path, content=b"" if body is None else content)
        kind = response.headers.get("content-type", "")
        return Answer(response.status_code, kind, response.text, response.headers)

    async def post(self, path: str, body: object) -> Answer:
        return await self.ask("POST", path, body)

    async def model(self, kind: str) -> str:
        """Return a model with a capability, or `plain` with none but completion; else skip."""
        if not self.found:
            await self._find()
        if kind not in self.found:
            pytest.skip(f"this Ollama has no model of kind {kind}")
        return self.found[kind]

    async def chat(self, *, kind: str = "plain", **more: object) -> Answer:
        """Ask a short question of a model of some kind."""
        body = {"model": await self.model(kind), "messages": USER, "options": SHORT}
        return await self.post("/api/chat", {**body, **more})

    async def generate(self, **more: object) -> Answer:
        body = {"model": await self.model("plain"), "prompt": "Say hello.", "options": SHORT}
        return await self.post("/api/generate", {**body, **more})

    async def running(self) -> dict[str, Any]:
        listed = (await self.ask("GET", "/api/ps")).json["models"]
        return {model["name"]: model for model in listed}

    async def _find(self) -> None:
        listed = (await self.ask("GET", "/api/tags")).json["models"]
        for model in sorted(listed, key=lambda entry: entry["name"] != PREFERRED):
            # `/api/tags` reads a model file's head only, and may miss what `/api/show` finds.
            shown = (await self.post("/api/show", {"model": model["name"]})).json
            capabilities = set(shown["capabilities"])
            for kind in capabilities:
                self.found.setdefault(kind, model["name"])
            if capabilities == {"completion"}:
                self.found.setdefault("plain", model["name"])
        self.found.setdefault("any", "")
