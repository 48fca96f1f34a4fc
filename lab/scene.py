"""What a step of the story has at hand."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab.control import Control
from lab.hosts import API, LLM01, LLM02, Host
from lab.load import Target
from lab.problems import LabProblem
from lab.shell import Done, Shell
from lab.stage import Stage


@dataclass(frozen=True)
class Scene:
    """The stage, the control node, and where evidence goes."""

    stage: Stage
    control: Control
    evidence: Path

    @property
    def shell(self) -> Shell:
        """Commands on this machine."""
        return self.stage.shell

    @property
    def real(self) -> bool:
        """Whether a real model answers."""
        return self.stage.kind.name == "model"

    @property
    def alias(self) -> str:
        """The alias that steps chat with."""
        return "smollm2" if self.real else "llama3-8b"

    @property
    def backends(self) -> tuple[Host, ...]:
        """The model hosts."""
        return (LLM01, LLM02)

    def target(self) -> Target:
        """Return what the load's clients ask."""
        return Target(API.address, self.alias, self.control.master_key)

    def on(self, host: Host, command: str, *, check: bool = True, timeout_s: float = 60.0) -> Done:
        """Run a shell command on a host as root."""
        return self.stage.ssh.run(host, command, check=check, timeout_s=timeout_s)

    def chat(self, question: str, max_tokens: int = 24) -> str:
        """Ask the gateway one thing, from the control node, and return the answer's text."""
        messages = [{"role": "user", "content": question}]
        body = {"model": self.alias, "messages": messages, "max_tokens": max_tokens}
        said = self.ask("/v1/chat/completions", body)
        try:
            return str(json.loads(said)["choices"][0]["message"]["content"])
        except (ValueError, LookupError, TypeError):
            raise LabProblem(f"no chat answer: {said[:500]}") from None

    def ask(self, path: str, body: object = None) -> str:
        """Ask the gateway, with the master key, and return what it says."""
        more = []
        if body is not None:
            more = ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        return self._curl(path, self.control.master_key, *more)

    def status_with(self, key: str) -> int:
        """Return the status of the list of models for this key."""
        return int(self._curl("/v1/models", key, "-o", "/dev/null", "-w", "%{http_code}"))

    def _curl(self, path: str, key: str, *more: str) -> str:
        # By standard input, so that the key is in no list of processes.
        secret = f'header = "Authorization: Bearer {key}"'
        argv = ["curl", "-sS", "-m", "120", "-K", "-", f"http://{API.address}:4000{path}", *more]
        return self.shell.run(argv, stdin=secret, timeout_s=130).output


@dataclass(frozen=True)
class Step:
    """A step: its name, and what is done; that returns in one line what it proved."""

    name: str
    play: Callable[[Scene], str]
