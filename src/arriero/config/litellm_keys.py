"""LiteLLM's vocabulary: the keys that count, as structs, and the providers of models.

A key that is neither here nor in `litellm_ignored.py` is unknown, as a misspelt one would be;
LiteLLM takes those without a word.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from arriero.config.settings import (
    Count,
    HeaderName,
    KeepAlive,
    Mode,
    ModelName,
    OptionValue,
    Retries,
    Seconds,
    Secret,
    Strategy,
    Text,
    Tokens,
    Url,
    Weight,
)

Megabytes = Annotated[float, Meta(gt=0, le=1_048_576)]
Fails = Annotated[int, Meta(ge=0, le=100_000)]


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of `model_list`; a key may stand in it, in litellm_params or in model_info."""

    model_name: ModelName
    model: ModelName
    api_base: Url | None = None
    api_key: Secret | None = None
    custom_llm_provider: Text | None = None
    timeout: Seconds | None = None
    request_timeout: Seconds | None = None
    stream_timeout: Seconds | None = None
    num_retries: Retries | None = None
    weight: Weight | None = None
    max_parallel_requests: Count | None = None
    mode: Mode | None = None
    num_ctx: Tokens | None = None
    keep_alive: KeepAlive | None = None
    max_input_tokens: Tokens | None = None
    max_output_tokens: Tokens | None = None
    supports_function_calling: bool | None = None
    supports_vision: bool | None = None
    supports_reasoning: bool | None = None


class RouterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`router_settings`."""

    routing_strategy: Strategy | None = None
    num_retries: Retries | None = None
    timeout: Seconds | None = None
    stream_timeout: Seconds | None = None
    allowed_fails: Fails | None = None
    cooldown_time: Seconds | None = None


class GeneralSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`general_settings`."""

    master_key: Secret | None = None
    max_request_size_mb: Megabytes | None = None
    user_header_name: HeaderName | None = None


class LitellmSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`litellm_settings`."""

    request_timeout: Seconds | None = None
    num_retries: Retries | None = None
    set_verbose: bool | None = None
    require_auth_for_metrics_endpoint: bool | None = None


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Sampling parameters of `litellm_params`: defaults below what a client sends."""

    temperature: OptionValue | None = None
    top_p: OptionValue | None = None
    top_k: OptionValue | None = None
    min_p: OptionValue | None = None
    typical_p: OptionValue | None = None
    seed: OptionValue | None = None
    stop: OptionValue | None = None
    max_tokens: OptionValue | None = None
    max_completion_tokens: OptionValue | None = None
    num_predict: OptionValue | None = None
    presence_penalty: OptionValue | None = None
    frequency_penalty: OptionValue | None = None
    repeat_penalty: OptionValue | None = None
    repeat_last_n: OptionValue | None = None
    penalize_newline: OptionValue | None = None
    mirostat: OptionValue | None = None
    mirostat_eta: OptionValue | None = None
    mirostat_tau: OptionValue | None = None
    tfs_z: OptionValue | None = None
    num_keep: OptionValue | None = None
    num_batch: OptionValue | None = None
    num_gpu: OptionValue | None = None
    main_gpu: OptionValue | None = None
    num_thread: OptionValue | None = None
    use_mmap: OptionValue | None = None
    use_mlock: OptionValue | None = None
    low_vram: OptionValue | None = None
    numa: OptionValue | None = None


# Keys that this vocabulary's reader handles by hand, by section.
SECTIONS: Final = (
    "model_list",
    "router_settings",
    "general_settings",
    "litellm_settings",
    "environment_variables",
)
ENTRY_SECTIONS: Final = ("litellm_params", "model_info")
ROUTER_KEYS: Final = ("retry_policy", "model_group_alias", "default_litellm_params")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


OLLAMA_PROVIDERS: Final = frozenset({"ollama", "ollama_chat"})
OPENAI_PROVIDERS: Final = _words("""
    openai openai_like custom_openai text-completion-openai hosted_vllm vllm llamafile
    lm_studio litellm_proxy docker_model_runner lemonade xinference
""")
CLOUD_PROVIDERS: Final = _words("""
    ai21 ai21_chat aiml amazon_nova anthropic anthropic_text azure azure_ai azure_text baseten
    bedrock bedrock_mantle bytez cerebras chatgpt chutes clarifai cloudflare codestral cohere
    cohere_chat cometapi dashscope databricks datarobot deepgram deepinfra deepseek elevenlabs
    fal_ai featherless_ai fireworks_ai friendliai galadriel gemini gigachat github
    github_copilot gradient_ai groq heroku huggingface hyperbolic jina_ai lambda_ai maritalk
    meta_llama minimax mistral modelscope moonshot morph nebius nlp_cloud novita nscale
    nvidia_nim oci openrouter ovhcloud perplexity petals poe predibase publicai recraft
    replicate sagemaker sagemaker_chat sambanova scaleway snowflake together_ai triton v0
    vercel_ai_gateway vertex_ai vertex_ai_beta volcengine voyage watsonx watsonx_text xai zai
""")
