"""The JSON objects of Ollama's API, with its field sets; durations on the wire are nanoseconds."""

from collections.abc import Callable
from typing import Any, Final

from arriero.embedded.engine import Outcome
from arriero.embedded.residency import Residency
from arriero.embedded.weights import Floats, Header
from arriero.testing.clock import nanoseconds, rfc3339

VERSION: Final = "0.33.0-arriero"  # the Ollama release whose API this follows, and who speaks
CAPABILITIES: Final = ("completion", "embedding")
QUANTISATION: Final = "Q4_1"
Json = dict[str, Any]
Piece = Callable[[str], Json]


def chat_piece(text: str) -> Json:
    """Return what a line of `/api/chat` says."""
    return {"message": {"role": "assistant", "content": text}}


def generate_piece(text: str) -> Json:
    """Return what a line of `/api/generate` says."""
    return {"response": text}


def line(model: str, unix_s: float, said: Json) -> Json:
    """Return one line of a stream that goes on."""
    return {"model": model, "created_at": rfc3339(unix_s), **said, "done": False}


def last_line(model: str, unix_s: float, said: Json, reason: str) -> Json:
    """Return the line that ends a stream; `reason` is stop, length, load or unload."""
    head = {"model": model, "created_at": rfc3339(unix_s), **said}
    return {**head, "done": True, "done_reason": reason}


def counters(outcome: Outcome, total_s: float, load_s: float) -> Json:
    """Return what an answer cost; the prompt counts whole, cached or not (Ollama since 0.30)."""
    return {
        "total_duration": nanoseconds(total_s),
        "load_duration": nanoseconds(load_s),
        "prompt_eval_count": outcome.prompt_tokens,
        "prompt_eval_duration": nanoseconds(outcome.prompt_s),
        "eval_count": outcome.completion_tokens,
        "eval_duration": nanoseconds(outcome.completion_s),
    }


def rendered(model: str, unix_s: float, said: Json, prompt: str) -> Json:
    """Return the answer to `_debug_render_only`."""
    return {**line(model, unix_s, said), "_debug_info": {"rendered_template": prompt}}


def embedded(model: str, vectors: list[Floats], tokens: int, total_s: float) -> Json:
    """Return the answer of `/api/embed`."""
    return {
        "model": model,
        "embeddings": [vector.tolist() for vector in vectors],
        "total_duration": nanoseconds(total_s),
        "load_duration": 0,
        "prompt_eval_count": tokens,
    }


def tags(name: str, header: Header, modified_s: float) -> Json:
    """Return `/api/tags`: the one model."""
    entry = {
        "name": name,
        "model": name,
        "modified_at": rfc3339(modified_s),
        "size": header.gguf_bytes,
        "digest": header.digest,
        "details": details(header)
        | {
            "context_length": header.hyper.context_length,
            "embedding_length": header.hyper.embedding_length,
        },
        "capabilities": CAPABILITIES,
    }
    return {"models": [entry]}


def loaded(name: str, header: Header, residency: Residency, unix_s: float) -> Json:
    """Return `/api/ps`: the model while it counts as loaded. It never uses video memory."""
    if residency.expires_s is None or not residency.loaded(unix_s):
        return {"models": []}
    entry = {
        "name": name,
        "model": name,
        "size": header.gguf_bytes,
        "digest": header.digest,
        "details": details(header),
        "expires_at": rfc3339(residency.expires_s),
        "size_vram": 0,
        "context_length": residency.context,
    }
    return {"models": [entry]}


def show(header: Header, modified_s: float) -> Json:
    """Return `/api/show`."""
    hyper = header.hyper
    return {
        "modelfile": f"FROM {header.gguf_name}\n",
        "parameters": "",
        "template": header.chat_template,
        "details": details(header),
        "model_info": {
            "general.architecture": "llama",
            "general.parameter_count": header.parameter_count,
            "llama.block_count": hyper.block_count,
            "llama.context_length": hyper.context_length,
            "llama.embedding_length": hyper.embedding_length,
            "llama.feed_forward_length": hyper.feed_forward_length,
            "llama.attention.head_count": hyper.head_count,
            "llama.attention.head_count_kv": hyper.head_count_kv,
            "llama.rope.freq_base": hyper.rope_freq_base,
            "llama.vocab_size": hyper.vocab_size,
        },
        "capabilities": CAPABILITIES,
        "modified_at": rfc3339(modified_s),
    }


def details(header: Header) -> Json:
    """Return the short description that `/api/tags`, `/api/ps` and `/api/show` share."""
    return {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": f"{header.parameter_count / 1e6:.2f}M",
        "quantization_level": QUANTISATION,
    }
