"""What a simulated host counted; tests assert on it and `GET /_sim/stats` shows it."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import msgspec


@dataclass(slots=True)
class Gauge:
    """Something that is now so many, and was at most so many."""

    now: int = 0
    most: int = 0

    def __enter__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        self.now -= 1


@dataclass(slots=True)
class ModelStats:
    """One model's counts; `running` are slots in use, `waiting` the runner's inner queue."""

    loads: int = 0
    loads_aborted: int = 0
    unloads: int = 0
    generations: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    prompt_tokens_cached: int = 0
    running: Gauge = field(default_factory=Gauge)
    waiting: Gauge = field(default_factory=Gauge)


@dataclass(slots=True)
class Stats:
    """One host's counts since its start; `cancelled` are requests whose client left."""

    requests: int = 0
    cancelled: int = 0
    in_flight: Gauge = field(default_factory=Gauge)
    endpoints: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    models: dict[str, ModelStats] = field(default_factory=dict)

    def of(self, model: str) -> ModelStats:
        """Return a model's counts, by its short name."""
        return self.models.setdefault(model, ModelStats())

    def as_dict(self) -> dict[str, Any]:
        """Return all counts as JSON has them."""
        counted: dict[str, Any] = msgspec.to_builtins(self)
        return counted
