"""What `OLLAMA_*` environment variables set on a real host."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One host's settings; the defaults are Ollama's."""

    num_parallel: int = 1  # OLLAMA_NUM_PARALLEL: slots of each loaded model
    max_loaded_models: int = 3  # OLLAMA_MAX_LOADED_MODELS, on a host with one GPU
    max_queue: int = 512  # OLLAMA_MAX_QUEUE: requests that may wait for a load
    context_length: int = 4096  # OLLAMA_CONTEXT_LENGTH: num_ctx when nobody sets it
    keep_alive_s: float = 300.0  # OLLAMA_KEEP_ALIVE; infinity keeps models for ever
    no_cloud: bool = True  # OLLAMA_NO_CLOUD
    version: str = "0.33.0"
    seed: int = 0  # of the faults' probabilities
