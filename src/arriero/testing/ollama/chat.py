"""`/api/chat` and `/api/generate` (server/routes.go, ChatHandler and GenerateHandler)."""

from collections.abc import Mapping, Sequence
from typing import Any

from arriero.testing.faults import Fault
from arriero.testing.ollama import options as option
from arriero.testing.ollama.compose import Ask, compose
from arriero.testing.ollama.engine import Piece
from arriero.testing.ollama.job import (
    Job,
    check_format,
    context_ids,
    deliver,
    fit,
    metrics,
    model_named,
    piece_logprobs,
    require,
    scheduled,
    settle_thinking,
    understand,
)
from arriero.testing.ollama.models import SimModel, Turn
from arriero.testing.ollama.outlet import Outlet
from arriero.testing.ollama.scheduler import Runner
from arriero.testing.ollama.state import Host, Refused
from arriero.testing.ollama.template import Message, render, split_raw
from arriero.testing.text import tokens

IMAGE_TOKENS = 768  # server/prompt.go
NO_IMAGES = (
    '{"error":{"code":400,"message":"Multimodal data provided, but model does not support '
    'multimodal requests.","type":"invalid_request_error"}}'
)


async def chat(host: Host, request: Mapping[str, Any], outlet: Outlet, fault: Fault | None) -> None:
    """Answer `/api/chat`; raises Refused."""
    job = understand(host, request, fault)
    name = job.name
    model = job.model = model_named(
        host, name, required="model is required", missing=f"model '{name}' not found"
    )
    messages = request.get("messages") or []
    if not messages and job.unloads:
        host.scheduler.expire(model)
        outlet.whole(_chat_frame(job, done_reason="unload"))
        return
    if not model.can("completion"):
        raise Refused(400, f'"{name}" does not support chat')
    settle_thinking(job)
    if request.get("tools"):
        require(model, "tools")
    async with scheduled(job) as runner:
        if not messages:
            outlet.whole(_chat_frame(job, done_reason="load"))
            return
        await _converse(job, runner, messages, outlet)


async def generate(
    host: Host, request: Mapping[str, Any], outlet: Outlet, fault: Fault | None
) -> None:
    """Answer `/api/generate`; raises Refused."""
    job = understand(host, request, fault)
    name = job.name
    model = job.model = model_named(host, name, required="", missing=f"model '{name}' not found")
    prompt = str(request.get("prompt", ""))
    if not prompt and job.unloads:
        host.scheduler.expire(model)
        outlet.whole(_generate_frame(job, done_reason="unload"))
        return
    if request.get("raw") and any(request.get(key) for key in ("template", "system", "context")):
        raise Refused(400, "raw mode does not support template, system, or context")
    if not model.can("completion"):
        raise Refused(400, f'"{name}" does not support generate')
    settle_thinking(job)
    if request.get("suffix"):
        require(model, "insert")
    async with scheduled(job) as runner:
        if not prompt:
            outlet.whole(_generate_frame(job, done_reason="load"))
            return
        await _complete(job, runner, prompt, outlet)


async def _converse(job: Job, runner: Runner, messages: Sequence[Message], outlet: Outlet) -> None:
    kept = _shorten(job, runner, _with_system(job.model, messages))
    if job.model.trims_prefill and kept[-1].get("role") == "assistant":
        kept[-1] = {**kept[-1], "content": str(kept[-1].get("content", "")).rstrip()}
    rendered = _rendered(job, kept)
    if job.request.get("_debug_render_only"):
        images = sum(len(message.get("images") or ()) for message in kept)
        nothing = {"message": {"role": "", "content": ""}, "done": False}
        info = {"_debug_info": _debug(rendered, images)}
        outlet.whole({"model": job.name, **job.host.created_at(), **nothing, **info})
        return
    check_format(job)
    _check_images(job.model, kept)
    prompt = fit(job, runner, tokens(rendered))
    question = _last(kept, "user")
    begun = kept[-1] if kept[-1].get("role") == "assistant" else {}
    ask = Ask(
        Turn(job.model.name, question, _seed(job), tuple(kept), job.options),
        begun=str(begun.get("content", "")) if job.model.continues_prefill else "",
        tools=job.request.get("tools") or (),
        think=job.think or False,
        format=job.request.get("format"),
        after_tool=str(kept[-1].get("content", "")) if kept[-1].get("role") == "tool" else None,
    )
    answer = compose(job.model, ask, job.options["stop"], _limit(job, runner, prompt))
    await deliver(job, runner, prompt, answer, lambda piece: _chat_frame(job, piece), outlet)


async def _complete(job: Job, runner: Runner, text: str, outlet: Outlet) -> None:
    raw = bool(job.request.get("raw"))
    if raw:
        rendered, (question, begun) = text, split_raw(text)
        job.think = False  # no parser runs in raw mode
    else:
        asked: Message = {
            "role": "user",
            "content": text,
            "images": job.request.get("images") or (),
        }
        system = str(job.request.get("system") or job.model.system)
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        messages.append(asked)
        _check_images(job.model, messages)
        rendered, question, begun = _rendered(job, messages), text, ""
    if job.request.get("_debug_render_only"):
        outlet.whole({**_generate_frame(job), "_debug_info": _debug(rendered, 0)})
        return
    check_format(job)
    prompt = fit(job, runner, tokens(rendered))
    ask = Ask(
        Turn(job.model.name, question, _seed(job), (), job.options),
        begun=begun,
        think=job.think or False,
        format=job.request.get("format"),
    )
    answer = compose(job.model, ask, job.options["stop"], _limit(job, runner, prompt))
    said = [*prompt, *answer.content]

    def frame(piece: Piece) -> dict[str, Any]:
        return _generate_frame(job, piece, context=() if raw else said)

    await deliver(job, runner, prompt, answer, frame, outlet)


def _with_system(model: SimModel, messages: Sequence[Message]) -> list[Message]:
    if model.system and messages[0].get("role") != "system":
        return [{"role": "system", "content": model.system}, *messages]
    return list(messages)


def _shorten(job: Job, runner: Runner, messages: list[Message]) -> list[Message]:
    """Drop the oldest messages, never a system message or the last, until the rest fits."""
    if not job.request.get("truncate", True):
        return messages
    for start in range(len(messages)):
        kept = [message for message in messages[:start] if message.get("role") == "system"]
        kept += messages[start:]
        images = sum(len(message.get("images") or ()) for message in kept)
        if len(tokens(_rendered(job, kept))) + IMAGE_TOKENS * images <= runner.context:
            return kept
    return [m for m in messages[:-1] if m.get("role") == "system"] + messages[-1:]


def _rendered(job: Job, messages: Sequence[Message]) -> str:
    tools = job.request.get("tools") or ()
    return render(messages, tools, prefill=job.model.continues_prefill)


def _check_images(model: SimModel, messages: Sequence[Message]) -> None:
    if not model.can("vision") and any(message.get("images") for message in messages):
        raise Refused(400, NO_IMAGES)


def _last(messages: Sequence[Message], role: str) -> str:
    for message in reversed(messages):
        if message.get("role") == role:
            return str(message.get("content", ""))
    return ""


def _seed(job: Job) -> int:
    return max(int(job.options["seed"]), 0)


def _limit(job: Job, runner: Runner, prompt: list[str]) -> int:
    limit = option.predict_limit(int(job.options["num_predict"]), runner.context)
    if runner.options["shift"]:
        return limit  # a full context slides on
    return min(limit, runner.context - len(prompt))


def _debug(rendered: str, images: int) -> dict[str, Any]:
    info: dict[str, Any] = {"rendered_template": rendered}
    return {**info, "image_count": images} if images else info


def _chat_frame(job: Job, piece: Piece | None = None, *, done_reason: str = "") -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": piece.content if piece else ""}
    if piece is not None and piece.thinking:
        message["thinking"] = piece.thinking
    if piece is not None and piece.tool_calls:
        message["tool_calls"] = piece.tool_calls
    frame = {"model": job.name, **job.host.created_at(), "message": message}
    return _finish(job, frame, piece, done_reason)


def _generate_frame(
    job: Job, piece: Piece | None = None, *, done_reason: str = "", context: Sequence[str] = ()
) -> dict[str, Any]:
    frame: dict[str, Any] = {"model": job.name, **job.host.created_at()}
    frame["response"] = piece.content if piece else ""
    if piece is not None and piece.thinking:
        frame["thinking"] = piece.thinking
    whole = _finish(job, frame, piece, done_reason)
    if piece is not None and piece.done_reason and context:
        whole["context"] = context_ids(list(context))
    return whole


def _finish(
    job: Job, frame: dict[str, Any], piece: Piece | None, done_reason: str
) -> dict[str, Any]:
    if piece is None:
        frame["done"] = bool(done_reason)
        return {**frame, "done_reason": done_reason} if done_reason else frame
    frame["done"] = bool(piece.done_reason)
    frame.update(piece_logprobs(job, piece))
    if piece.done_reason:
        frame["done_reason"] = piece.done_reason
        frame.update(metrics(job, piece))
    return frame
