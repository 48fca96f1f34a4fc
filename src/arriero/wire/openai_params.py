"""Every request parameter we know of, and what becomes of it: the table of docs/parameters.md.

The rule behind the rows: a parameter whose loss changes what the answer means is refused, one
whose loss costs at most speed, money or bookkeeping is ignored and told. Names that are not here
are ignored and told as well, because clients invent them faster than anyone can list them.
"""

from enum import Enum
from typing import Literal

import msgspec

Operation = Literal["chat", "completion", "embedding"]


class Policy(Enum):
    """What becomes of a parameter."""

    MAP = "map"  # it reaches the backend, if the backend knows a like of it
    IGNORE = "ignore"  # dropped, and its name told in a response header
    REFUSE = "refuse"  # 400 with `param`


class Rule(msgspec.Struct, frozen=True):
    """One row. `harmless` are the values of a refused parameter that ask for nothing."""

    name: str
    operations: tuple[Operation, ...]
    policy: Policy
    reason: str
    harmless: tuple[object, ...] = ()


_CHAT: tuple[Operation, ...] = ("chat",)
_TEXT: tuple[Operation, ...] = ("chat", "completion")
_COMPLETION: tuple[Operation, ...] = ("completion",)
_EMBEDDING: tuple[Operation, ...] = ("embedding",)
_ALL: tuple[Operation, ...] = ("chat", "completion", "embedding")

# Ollama's options beyond sampling. Several of them are load-time attributes: a value that differs
# from the one the model was loaded with reloads it, which is why the alias decides, not a client.
MODEL_OPTIONS = (
    "num_ctx",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "use_mmap",
    "use_mlock",
    "num_thread",
    "numa",
    "low_vram",
    "draft_num_predict",
    "num_keep",
    "typical_p",
    "repeat_last_n",
    "tfs_z",
    "penalize_newline",
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
)


def _rows(policy: Policy, operations: tuple[Operation, ...], reasons: dict[str, str]) -> list[Rule]:
    return [Rule(name, operations, policy, reason) for name, reason in reasons.items()]


_MAPPED = [
    *_rows(
        Policy.MAP,
        _ALL,
        {
            "model": "the alias",
            "user": "names the end user in accounting, never sent to a backend",
            "options": "Ollama's: sampling options count as if sent at the top level",
            "keep_alive": "Ollama's: counts if the alias allows client options",
        },
    ),
    *_rows(
        Policy.MAP,
        _TEXT,
        {
            "stream": "as in OpenAI's API, off by default",
            "stream_options": "`include_usage`; without effect unless `stream` is set",
            "temperature": "0 to 2; left out, the model's own default counts",
            "top_p": "0 to 1; left out, the model's own default counts",
            "top_k": "Ollama's, llama.cpp's and vLLM's",
            "min_p": "Ollama's, llama.cpp's and vLLM's; 0 to 1",
            "seed": "a 64-bit integer",
            "stop": "a string or up to 16 of them",
            "presence_penalty": "-2 to 2",
            "frequency_penalty": "-2 to 2; never turned into `repeat_penalty`",
            "repeat_penalty": "Ollama's and llama.cpp's",
            "repetition_penalty": "vLLM's name for `repeat_penalty`",
            "max_tokens": "at least 1",
            "max_completion_tokens": "at least 1; wins over `max_tokens`",
            "num_predict": "Ollama's name for `max_tokens`; below 1 means no limit",
            "safety_identifier": "as `user`, which it replaces",
        },
    ),
    *_rows(
        Policy.MAP,
        _CHAT,
        {
            "messages": "see below",
            "tools": "of type `function`",
            "tool_choice": "`none` removes the tools; others as far as the backend can",
            "parallel_tool_calls": "as far as the backend can",
            "functions": "the older form of `tools`; answers come as `tool_calls`",
            "function_call": "the older form of `tool_choice`",
            "response_format": "`text`, `json_object`, `json_schema`",
            "format": 'Ollama\'s form of `response_format`: `"json"` or a schema',
            "reasoning_effort": "`none` turns thinking off; see below",
            "reasoning": "`effort`, as `reasoning_effort`; `enabled`",
            "think": "Ollama's: a switch or a level; wins over the others",
            "thinking": "`type`: `enabled`, `adaptive` or `disabled`",
            "enable_thinking": "a switch, as `think`",
            "chat_template_kwargs": "`enable_thinking` and `thinking` only; others are told",
            "logprobs": "a switch",
            "top_logprobs": "0 to 20; needs `logprobs`",
            "continue_final_message": "the last message is the beginning of the answer",
            "add_generation_prompt": "false after an assistant's message continues it",
            "prompt_cache_key": "names the conversation where no header does; never sent to Ollama",
        },
    ),
    *_rows(
        Policy.MAP,
        _COMPLETION,
        {
            "prompt": "one string; it passes through the model's template",
            "suffix": "the text after the gap, for models that fill in",
            "echo": "the prompt is put before the answer; not together with `logprobs`",
            "logprobs": "0 to 5",
        },
    ),
    *_rows(
        Policy.MAP,
        _EMBEDDING,
        {
            "input": "a string or up to 2048 of them, none empty; no token arrays",
            "encoding_format": "`float` (default) or `base64`",
            "dimensions": "at least 1",
        },
    ),
    *[
        Rule(name, _ALL, Policy.MAP, "an Ollama option: counts if the alias allows client options")
        for name in MODEL_OPTIONS
    ],
]

_IGNORED = [
    *_rows(
        Policy.IGNORE,
        _ALL,
        {
            "metadata": "bookkeeping of OpenAI's platform",
            "truncate": "an over-long prompt is the alias's business",
            "priority": "the queue's order is the gateway's business",
        },
    ),
    *_rows(
        Policy.IGNORE,
        _TEXT,
        {
            "cache_prompt": "backends always reuse their prompt cache",
            "id_slot": "which slot answers is the backend's business",
            "ignore_eos": "a benchmark's switch; no backend we speak to natively has it",
            "service_tier": "there is one tier",
            "shift": "a load-time attribute of Ollama, which reloads the model",
            "timings_per_token": "llama.cpp's extra output; the answer is the same without",
            "return_progress": "llama.cpp's extra output; the answer is the same without",
        },
    ),
    *_rows(
        Policy.IGNORE,
        _CHAT,
        {
            "include_reasoning": "reasoning is always sent when there is any",
            "prediction": "a hint for speed; the answer is the same without",
            "prompt_cache_options": "a hint for speed; the answer is the same without",
            "prompt_cache_retention": "a hint for speed; the answer is the same without",
            "reasoning_format": "reasoning always comes apart from the content",
            "store": "nothing is stored here",
            "verbosity": "a hint of style no backend knows; say it in the system message",
        },
    ),
]

_REFUSED = [
    *_rows(
        Policy.REFUSE,
        _ALL,
        {
            "extra_body": "SDKs merge its contents into the body: send them at the top level",
        },
    ),
    *_rows(
        Policy.REFUSE,
        _TEXT,
        {
            "_debug_render_only": "it would show the alias's own template and system prompt",
            "allowed_token_ids": "tokens differ between models",
            "bad_words": "no backend we speak to natively can forbid words",
            "context": "Ollama's deprecated token context; send the conversation",
            "grammar": "use `response_format`",
            "guided_choice": "use `response_format` with an enum in its schema",
            "guided_grammar": "use `response_format`",
            "guided_json": "use `response_format`",
            "guided_regex": "use `response_format` with a pattern in its schema",
            "json_schema": "use `response_format`",
            "min_tokens": "no backend we speak to natively can hold it",
            "prompt_logprobs": "no backend we speak to natively returns them",
            "raw": "the template belongs to the model",
            "stop_token_ids": "tokens differ between models; use `stop`",
            "structured_outputs": "use `response_format`",
            "system": "send a message with the role `system`",
            "template": "the template belongs to the model",
        },
    ),
    *_rows(
        Policy.REFUSE,
        _CHAT,
        {
            "audio": "answers are text",
            "chat_template": "the template belongs to the model",
            "documents": "no template of ours is sure to show them; put them into a message",
            "moderation": "there is no moderation here, and its absence must not pass unseen",
            "web_search_options": "there is no search here",
        },
    ),
    Rule("modalities", _CHAT, Policy.REFUSE, "answers are text", (["text"], [])),
    Rule("n", _TEXT, Policy.REFUSE, "one answer a request; send several requests", (1,)),
    Rule("best_of", _TEXT, Policy.REFUSE, "one answer a request", (1,)),
    Rule("use_beam_search", _TEXT, Policy.REFUSE, "tokens are drawn, not searched", (False,)),
    Rule("logit_bias", _TEXT, Policy.REFUSE, "tokens differ between models", ({},)),
    Rule(
        "response_format", _COMPLETION, Policy.REFUSE, "use chat completions", ({"type": "text"},)
    ),
    Rule("tools", _COMPLETION, Policy.REFUSE, "use chat completions", ([],)),
]

RULES: tuple[Rule, ...] = (*_MAPPED, *_IGNORED, *_REFUSED)


def rules_for(operation: Operation) -> dict[str, Rule]:
    """Return the rules of one operation by name."""
    return {rule.name: rule for rule in RULES if operation in rule.operations}
