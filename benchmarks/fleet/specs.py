"""What hosts and models can do: the assumptions of the simulator, each with where it comes from.

Speeds are llama-bench's for Llama 3 8B Q4_K_M at 4,096 tokens
(github.com/XiongjieDai/GPU-Benchmarks-on-LLM-Inference, README, May 2024). Other models' speeds are
scaled by their size, because prefill is bound by arithmetic and decoding by reading the weights.
"""

from dataclasses import dataclass, replace
from typing import Final

# llama-server decodes one token of each running answer in every batch and fills the batch up with
# prompt tokens; Ollama's `num_batch` is 512. So a long prompt slows other answers down to this.
BATCH_TOKENS: Final = 512
# Decoding several answers at once reads the weights once: each further one costs the others a
# little. No source; 10 % is in the order of what `llama-batched-bench` shows for small batches.
BATCH_COST: Final = 0.1
# Ollama waits up to 5 s for the driver to report freed memory before it loads (research: "VRAM
# recovery"); a model is read from a warm page cache or NVMe. Both are guesses of ours.
VRAM_RECOVERY_S: Final = 1.0
LOAD_BYTES_PER_S: Final = 2e9
LOAD_START_S: Final = 2.0
REFERENCE_BYTES: Final = 4.9e9  # Llama 3 8B Q4_K_M with its buffers


@dataclass(frozen=True)
class ModelSpec:
    """A model: its size in memory, and how many tokens 8 GiB of prompt cache hold of it."""

    name: str
    size_bytes: float = REFERENCE_BYTES
    # Keys and values of Llama 3 8B take 128 KiB a token: 2 * 32 layers * 8 heads * 128 * 2 bytes.
    cache_tokens: int = 65_536

    @property
    def weight(self) -> float:
        """How many times slower than the reference model it is."""
        return self.size_bytes / REFERENCE_BYTES

    @property
    def load_s(self) -> float:
        """How long loading takes."""
        return LOAD_START_S + self.size_bytes / LOAD_BYTES_PER_S


@dataclass(frozen=True)
class HostSpec:
    """A host: tokens a second of the reference model alone, memory, and Ollama's settings.

    `ram_cache` is llama-server's prompt cache beside the slots' own (Ollama since 0.30). One of our
    embedded servers keeps so many conversations as `pool` says, and is no llama-server.
    """

    name: str
    prefill_tps: float = 3170.0
    decode_tps: float = 97.3
    vram_bytes: float = 22e9
    slots: int = 1
    ram_cache: bool = True
    pool: int = 0


RTX_3090 = HostSpec("rtx3090")
RTX_4090 = HostSpec("rtx4090", prefill_tps=5266.0, decode_tps=119.4)
RTX_3070 = HostSpec("rtx3070", prefill_tps=1827.0, decode_tps=67.0, vram_bytes=7.5e9)
M2_ULTRA = HostSpec("m2ultra", prefill_tps=979.0, decode_tps=64.6, vram_bytes=140e9)
M1_MAX = HostSpec("m1max", prefill_tps=330.0, decode_tps=31.2, vram_bytes=46e9)


def fleet_of(count: int, spec: HostSpec = RTX_3090) -> tuple[HostSpec, ...]:
    """Return that many equal hosts."""
    return tuple(replace(spec, name=f"{spec.name}-{number}") for number in range(count))


def mixed_fleet() -> tuple[HostSpec, ...]:
    """Return eight hosts of very different speed, as they are found under desks."""
    specs = (RTX_4090, RTX_4090, RTX_3090, RTX_3090, RTX_3070, RTX_3070, M2_ULTRA, M1_MAX)
    return tuple(replace(spec, name=f"{spec.name}-{number}") for number, spec in enumerate(specs))
