"""What `/api/chat`, `/api/generate` and `/api/embed*` do alike before and after generating."""

import base64
import binascii
import json
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from arriero.testing.clock import nanoseconds
from arriero.testing.faults import Fault, Kind
from arriero.testing.ollama import options as option
from arriero.testing.ollama.compose import Answer
from arriero.testing.ollama.decode import BadBody, duration_s, think_value
from arriero.testing.ollama.engine import Piece, SilentEnd, logprobs
from arriero.testing.ollama.models import SimModel
from arriero.testing.ollama.names import InvalidName, ModelRequired
from arriero.testing.ollama.outlet import Outlet
from arriero.testing.ollama.scheduler import QueueFull, Runner
from arriero.testing.ollama.state import Host, Refused, load_options

BUSY: Final = "server busy, please try again.  maximum pending requests exceeded"
LOAD_FAILED: Final = "llama-server process has terminated: exit status 1"
NO_CLOUD: Final = "ollama cloud is disabled: remote model is unavailable"
TOO_LONG: Final = (
    "the prompt is longer than the context length currently available to the model; shorten the "
    "prompt, adjust the context length in settings, or use a model with a longer context length"
)
TOP_LOGPROBS_MAX: Final = 20
_CACHE_CELLS: Final = 256  # llama.cpp rounds a context up to a multiple of this

Frame = Callable[[Piece], dict[str, Any]]


@dataclass(slots=True)
class Job:
    """One inference request, understood."""

    host: Host
    request: Mapping[str, Any]
    started_s: float
    model: SimModel = field(init=False)
    keep_alive_s: float | None = None
    think: bool | str | None = None
    fault: Fault | None = None
    loaded_s: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The model's name as the client wrote it."""
        return str(self.request.get("model", ""))

    @property
    def stream(self) -> bool:
        """Native endpoints stream unless told not to."""
        return bool(self.request.get("stream", True))

    @property
    def unloads(self) -> bool:
        """Whether keep_alive 0 was asked for."""
        return self.keep_alive_s == 0

    def durations(self) -> dict[str, Any]:
        """Return the two durations that every last piece has."""
        now_s = self.host.clock.now_s()
        return {
            "total_duration": nanoseconds(now_s - self.started_s),
            "load_duration": nanoseconds(self.loaded_s - self.started_s),
        }


def understand(host: Host, request: Mapping[str, Any], fault: Fault | None) -> Job:
    """Read what Ollama reads before it looks for the model. Raises Refused."""
    job = Job(host, request, host.clock.now_s(), fault=fault)
    try:
        if "keep_alive" in request:
            job.keep_alive_s = duration_s(request["keep_alive"])
        if "think" in request:
            job.think = think_value(request["think"])
    except BadBody as error:
        raise Refused(400, str(error)) from None
    images = [*request.get("images", ())]
    for message in request.get("messages", ()):
        images += message.get("images") or ()
    for image in images:
        check_base64(image)
    if not 0 <= request.get("top_logprobs", 0) <= TOP_LOGPROBS_MAX:
        raise Refused(400, f"top_logprobs must be between 0 and {TOP_LOGPROBS_MAX}")
    return job


def check_base64(image: object) -> None:
    """Refuse an image that is not base64."""
    try:
        base64.b64decode(str(image), validate=True)
    except binascii.Error:
        raise Refused(400, "illegal base64 data at input byte 0") from None


def model_named(host: Host, name: str, *, required: str, missing: str) -> SimModel:
    """Return the installed model; raises Refused.

    `required` and `missing` are the texts for an empty name and for a model that is not there;
    every endpoint has its own. An empty `required` stands for the 404 of `missing`.
    """
    base, suffix = _source(name)
    if suffix == "cloud":
        raise Refused(403, NO_CLOUD)
    try:
        model = host.find(base)
    except ModelRequired:
        if required:
            raise Refused(400, required) from None
        raise Refused(404, f"model '{name}' not found") from None
    except InvalidName:
        raise Refused(400, "invalid model name") from None
    if model is None:
        raise Refused(404, missing)
    if model.remote_host:
        raise Refused(403, NO_CLOUD)
    return model


def _source(name: str) -> tuple[str, str]:
    base, _, tag = name.strip().rpartition(":")
    if not base:
        return name, ""
    if tag.lower() in {"cloud", "local"}:
        return base, tag.lower()
    return (base, "cloud") if tag.lower().endswith("-cloud") and "/" not in tag else (name, "")


def require(model: SimModel, *capabilities: str) -> None:
    """Refuse what the model cannot do, with its complete name as Ollama does."""
    lacking = [capability for capability in capabilities if not model.can(capability)]
    if lacking:
        raise Refused(400, f"{model.ref} does not support {chr(10).join(lacking)}")


def settle_thinking(job: Job) -> None:
    """Think by default when the model can; refuse to when it cannot."""
    if job.model.can("thinking"):
        job.think = True if job.think is None else job.think
    elif job.think:
        raise Refused(400, f'"{job.name}" does not support thinking')
    else:
        job.think = False


@asynccontextmanager
async def scheduled(job: Job) -> AsyncIterator[Runner]:
    """Give the job its runner, loading the model when needed; raises Refused."""
    try:
        job.options = option.merged(job.model.parameters, job.request.get("options") or {})
    except option.BadOption as error:
        raise Refused(500, str(error)) from None
    if job.fault is not None and job.fault.kind is Kind.LOAD_FAILED:
        raise Refused(500, job.fault.text or LOAD_FAILED)
    try:
        async with job.host.scheduler.runner(
            job.model, _load_options(job), job.keep_alive_s
        ) as runner:
            job.loaded_s = job.host.clock.now_s()
            yield runner
    except QueueFull:
        raise Refused(503, BUSY) from None


def _load_options(job: Job) -> dict[str, Any]:
    return load_options(job.host, job.model, job.options, shift=job.request.get("shift", True))


def check_format(job: Job) -> None:
    """Refuse a `format` that is neither "json" nor a schema."""
    wanted = job.request.get("format")
    if wanted not in (None, "", "json") and not isinstance(wanted, Mapping):
        quoted = json.dumps(json.dumps(wanted))
        raise Refused(
            500, f'invalid format: {quoted}; expected "json" or a valid JSON Schema object'
        )


def fit(job: Job, runner: Runner, prompt: list[str]) -> list[str]:
    """Cut an overlong prompt as Ollama does, or refuse it; raises Refused."""
    context = runner.context
    if len(prompt) < context:
        return prompt
    if not job.request.get("truncate", True):
        room = -(-context // _CACHE_CELLS) * _CACHE_CELLS
        if len(prompt) < room:
            return prompt
        raise Refused(400, _exceeds(len(prompt), room))
    if not runner.options["shift"]:
        raise Refused(400, TOO_LONG)
    keep = min(max(int(job.options["num_keep"]), 0), context - 1)
    limit = context - max((context - keep) // 2, 1)
    return [*prompt[:keep], *prompt[len(prompt) - limit + keep :]]


def _exceeds(count: int, context: int) -> str:
    # llama-server's own error, handed on as a string by Ollama.
    return (
        f'{{"error":{{"code":400,"message":"request ({count} tokens) exceeds the available '
        f'context size ({context} tokens), try increasing it","type":'
        f'"exceed_context_size_error","n_prompt_tokens":{count},"n_ctx":{context}}}}}'
    )


async def deliver(
    job: Job, runner: Runner, prompt: list[str], answer: Answer, frame: Frame, outlet: Outlet
) -> None:
    """Generate the answer into the outlet, streamed or whole; raises what the job's fault does."""
    pieces = job.host.engine.pieces(runner, prompt, answer, job.fault)
    async with aclosing(pieces):
        if job.stream:
            await _stream(pieces, frame, outlet)
        else:
            await _collect(pieces, frame, outlet)


async def _stream(pieces: AsyncIterator[Piece], frame: Frame, outlet: Outlet) -> None:
    async for piece in pieces:
        if piece.malformed:
            await outlet.garble(frame(piece))
        else:
            await outlet.line(frame(piece))
    outlet.end()


async def _collect(pieces: AsyncIterator[Piece], frame: Frame, outlet: Outlet) -> None:
    seen: list[Piece] = []
    try:
        async for piece in pieces:
            seen.append(piece)  # noqa: PERF401 - what came before a silent end is still answered
    except SilentEnd:
        pass
    last = seen[-1] if seen else Piece()
    value = frame(last)
    text = value.get("message", value)
    content = "response" if "response" in text else "content"
    text[content] = "".join(piece.content for piece in seen)
    if any(piece.thinking for piece in seen):
        text["thinking"] = "".join(piece.thinking for piece in seen)
    calls = [call for piece in seen for call in piece.tool_calls]
    if calls:
        text["tool_calls"] = calls
    every = [one for piece in seen for one in frame(piece).get("logprobs", ())]
    if every:
        value["logprobs"] = every
    outlet.whole(value)


def metrics(job: Job, piece: Piece) -> dict[str, Any]:
    """Return the counters of a last piece; those that are zero are left out, as Go does."""
    counters = {
        **job.durations(),
        "prompt_eval_count": piece.prompt_tokens,
        "prompt_eval_duration": nanoseconds(piece.prompt_s),
        "eval_count": piece.answer_tokens,
        "eval_duration": nanoseconds(piece.answer_s),
    }
    return {name: value for name, value in counters.items() if value}


def piece_logprobs(job: Job, piece: Piece) -> dict[str, Any]:
    """Return the `logprobs` field of a piece, when asked for."""
    text = piece.content or piece.thinking
    if not job.request.get("logprobs") or not text:
        return {}
    return {"logprobs": logprobs(text, int(job.request.get("top_logprobs", 0)))}


def context_ids(tokens: list[str]) -> list[int]:
    """Return made-up token ids for the deprecated `context` field."""
    return [zlib.crc32(token.encode()) % 128_000 for token in tokens]
