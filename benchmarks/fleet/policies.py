"""All policies by name, in the order of the tables."""

from collections.abc import Callable

from arriero.config.settings import Strategy
from benchmarks.fleet.baselines import (
    BoundedHashing,
    HerdLike,
    LiteLlmLeastBusy,
    OpenWebUi,
    RandomChoice,
    RoundRobin,
)
from benchmarks.fleet.engine import Engine, Policy
from benchmarks.fleet.ours import Gateway

Maker = Callable[[Engine, int], Policy]

OURS = "adaptive"
TITLES = {
    "adaptive": "arriero, adaptive",
    "least-busy": "arriero, least-busy",
    "litellm-least-busy": "LiteLLM, least-busy",
    "litellm-shuffle": "LiteLLM, simple-shuffle",
    "round-robin": "round robin",
    "open-webui": "Open WebUI's random choice",
    "herd-like": "ollama-herd's scores",
    "bounded-hashing": "bounded-load hashing",
}


def _ours(strategy: Strategy) -> Maker:
    return lambda engine, seed: Gateway(engine, strategy)  # noqa: ARG005 - one signature


MAKERS: dict[str, Maker] = {
    "adaptive": _ours("adaptive"),
    "least-busy": _ours("least-busy"),
    "litellm-least-busy": LiteLlmLeastBusy,
    "litellm-shuffle": RandomChoice,
    "round-robin": RoundRobin,
    "open-webui": OpenWebUi,
    "herd-like": HerdLike,
    "bounded-hashing": BoundedHashing,
}
