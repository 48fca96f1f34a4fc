"""What goes over the wire: the request, the answers of both mocks, the pieces of a stream.

The OpenAI answer and the Ollama answer carry the same completion, and so do the two kinds of
stream chunk, so that a gateway which translates and one which does not move the same text.
"""

import json

MODEL = "bench"
KEY = "sk-bench-0123456789abcdef"
MARKER = "quokka"
"""Every chunk holds this word once; the client counts it, whatever the framing around it."""

TEXT = (
    "An arriero knows his animals, the road and the weather. He loads them evenly, because a tired "
    "one stops the whole train, and he never sends two where there is room for one. When one falls "
    "ill he moves its load to the others before anybody in the valley hears of it. In the evening "
    "he counts them twice, waters them, and writes down what each carried, how far, and for whom."
)
CREATED = 1_760_000_000
CREATED_AT = "2025-10-09T08:53:20.000000Z"
DIGEST = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
_DURATIONS = {
    "total_duration": 1_904_522_000,
    "load_duration": 12_806_000,
    "prompt_eval_count": 24,
    "prompt_eval_duration": 61_204_000,
    "eval_count": 84,
    "eval_duration": 1_830_226_000,
}
_USAGE = {"prompt_tokens": 24, "completion_tokens": 84, "total_tokens": 108}


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def question(text: str, *, stream: bool) -> str:
    """Return the body of a chat request as a client sends it."""
    messages = [
        {"role": "system", "content": "You are a helpful assistant who answers briefly."},
        {"role": "user", "content": text},
    ]
    body: dict[str, object] = {"model": MODEL, "messages": messages, "temperature": 0.7}
    body["max_tokens"] = 256
    if stream:
        body["stream"] = True
    return compact(body)


def openai_answer() -> str:
    message = {"role": "assistant", "content": TEXT}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return compact(_openai("chat.completion", choice) | {"usage": _USAGE})


def ollama_answer() -> str:
    message = {"role": "assistant", "content": TEXT}
    return compact(_ollama(message, done=True) | {"done_reason": "stop"} | _DURATIONS)


def _openai(kind: str, choice: dict[str, object]) -> dict[str, object]:
    name = "chatcmpl-9f3b1c2d4e5f60718293a4b5"
    return {
        "id": name,
        "object": kind,
        "created": CREATED,
        "model": MODEL,
        "system_fingerprint": "fp_ollama",
        "choices": [choice],
    }


def _ollama(message: dict[str, str], *, done: bool) -> dict[str, object]:
    return {"model": MODEL, "created_at": CREATED_AT, "message": message, "done": done}


def _sse_piece(content: str, finish_reason: str | None) -> dict[str, object]:
    delta = {"role": "assistant", "content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return _openai("chat.completion.chunk", choice)


def _listing() -> dict[str, object]:
    """Return what /api/tags and /api/ps say: the model is there, and it is loaded."""
    details = {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "8.0B",
        "quantization_level": "Q4_K_M",
    }
    model = {
        "name": f"{MODEL}:latest",
        "model": f"{MODEL}:latest",
        "modified_at": CREATED_AT,
        "size": 4_920_753_328,
        "digest": DIGEST,
        "details": details,
    }
    loaded = {"expires_at": "2125-10-09T08:53:20Z", "size_vram": 4_920_753_328}
    return {"models": [model | loaded | {"context_length": 8192}]}


def _show() -> dict[str, object]:
    info = {"general.architecture": "llama", "llama.context_length": 131_072}
    return {"details": {"family": "llama"}, "model_info": info, "capabilities": ["completion"]}


def _models() -> dict[str, object]:
    model = {"id": MODEL, "object": "model", "created": CREATED, "owned_by": "bench"}
    return {"object": "list", "data": [model]}


def answers() -> dict[str, str]:
    """Return every path a mock answers, with its JSON; the same for nginx and for our own mock."""
    return {
        "/v1/chat/completions": openai_answer(),
        "/api/chat": ollama_answer(),
        "/api/tags": compact(_listing()),
        "/api/ps": compact(_listing()),
        "/api/version": compact({"version": "0.12.5"}),
        "/api/show": compact(_show()),
        "/v1/models": compact(_models()),
        # What the Rust routers ask a worker before they send it anything.
        "/health": compact({"status": "ok"}),
        "/get_server_info": compact({"model_id": MODEL, "model_path": MODEL}),
        "/get_model_info": compact({"model_path": MODEL, "is_generation": True}),
        "/server_info": compact({"model_id": MODEL, "model_path": MODEL}),
        "/model_info": compact({"model_path": MODEL, "is_generation": True}),
    }


def stream_pieces() -> dict[str, str]:
    """Return the JSON of the pieces of a stream; the mock frames them."""
    # The mock puts a number in place of the two signs; chunks that are all the same make LiteLLM
    # believe that the model repeats itself, and it ends the stream.
    word = f" {MARKER}@@"
    end = {"done_reason": "stop"} | _DURATIONS
    return {
        "sse-chunk": compact(_sse_piece(word, None)),
        "sse-end": compact(_sse_piece("", "stop") | {"usage": _USAGE}),
        "ndjson-chunk": compact(_ollama({"role": "assistant", "content": word}, done=False)),
        "ndjson-end": compact(_ollama({"role": "assistant", "content": ""}, done=True) | end),
    }


def order(chunks: int, rate: float) -> str:
    """Return the message text that tells the streaming mock what to do."""
    return f"bench chunks={chunks} rate={rate:g}"
