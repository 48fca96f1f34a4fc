"""What is installed on a simulated host."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Any, Final

from arriero.testing.ollama.names import Name, parse
from arriero.testing.text import answer_words, prose

GIB: Final = 1 << 30
TEMPLATE: Final = (
    "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}"
    "<|im_start|>assistant\n"
)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a reply is made from; `text` is the last message of the user, or the raw prompt."""

    model: str
    text: str
    seed: int
    messages: tuple[Mapping[str, Any], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


Reply = Callable[[Turn], str]


@dataclass(frozen=True)
class SimModel:
    """One installed model: what it is, what it can, how fast, and what it says.

    `replies` is a function of the turn, or a table from a piece of the user's text to the answer;
    without a match the answer is prose seeded by model, question and seed. Speeds are tokens per
    second, and infinite by default: tests need no waiting they did not ask for.
    """

    name: str
    _: KW_ONLY
    capabilities: tuple[str, ...] = ("completion",)
    family: str = "llama"
    parameter_size: str = "8.0B"
    quantization: str = "Q4_0"
    size: int = 5 * GIB
    vram_share: float = 1.0  # below 1 the rest of the model lies in host memory
    context_length: int = 8192  # what the model was trained for
    embedding_length: int = 384
    parameters: Mapping[str, Any] = field(default_factory=dict)  # PARAMETER lines of the Modelfile
    system: str = ""
    digest: str = ""
    remote_host: str = ""  # set: a stub of a cloud model

    load_s: float = 0.0
    prefill_tps: float = float("inf")
    decode_tps: float = float("inf")
    continues_prefill: bool = True  # a trailing assistant message is continued, not closed
    trims_prefill: bool = False  # ... without the white space at its end (qwen3.5's renderer)
    tool_calls_last: bool = False  # calls come with the `done` line, as with Jinja templates
    replies: Reply | Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A digest that was not given follows the weights, so that two hosts agree about one model
        # and a test that wants them to differ says so.
        if not self.digest:
            made = hashlib.sha256(f"{self.ref.key}|{self.quantization}".encode()).hexdigest()
            object.__setattr__(self, "digest", made)

    @cached_property
    def ref(self) -> Name:
        """The complete name."""
        return parse(self.name)

    def can(self, capability: str) -> bool:
        """Say whether the model has a capability of `/api/show`."""
        return capability in self.capabilities

    def say(self, turn: Turn) -> str:
        """Return the whole answer to a turn."""
        if callable(self.replies):
            return self.replies(turn)
        for part, answer in self.replies.items():
            if part in turn.text:
                return answer
        return prose(f"{self.digest}|{turn.seed}|{turn.text}", answer_words(turn.text))
