"""`/api/embed` and the older `/api/embeddings` (server/routes.go, EmbedHandler)."""

from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, Final

from arriero.testing.faults import Fault
from arriero.testing.ollama.compose import Answer
from arriero.testing.ollama.job import Job, model_named, scheduled, understand
from arriero.testing.ollama.outlet import Outlet
from arriero.testing.ollama.scheduler import Runner
from arriero.testing.ollama.state import Host, Refused
from arriero.testing.text import normalise, tokens, unit_vector

TOO_LONG: Final = "the input length exceeds the context length"
NO_EMBEDDINGS: Final = "This server does not support embeddings. Start it with `--embeddings`"


async def embed(
    host: Host, request: Mapping[str, Any], outlet: Outlet, fault: Fault | None
) -> None:
    """Answer `/api/embed`; raises Refused."""
    job = understand(host, request, fault)
    name = job.name
    inputs = _inputs(request.get("input"))
    job.model = model_named(host, name, required="", missing=_missing(name))
    async with scheduled(job) as runner:
        if inputs:
            _require_embeddings(job, 501)
        vectors = [await _vector(job, runner, text) for text in inputs]
        counted = sum(min(len(tokens(text)), runner.context) for text in inputs)
        answer: dict[str, Any] = {"model": name, "embeddings": vectors}
        if inputs:
            answer.update(job.durations(), prompt_eval_count=counted)
        outlet.whole(answer)


async def embeddings(
    host: Host, request: Mapping[str, Any], outlet: Outlet, fault: Fault | None
) -> None:
    """Answer `/api/embeddings`; raises Refused."""
    job = understand(host, request, fault)
    job.model = model_named(
        host, job.name, required="model is required", missing=_missing(job.name)
    )
    prompt = str(request.get("prompt", ""))
    async with scheduled(job) as runner:
        if prompt:
            _require_embeddings(job, 500)
        outlet.whole({"embedding": await _vector(job, runner, prompt) if prompt else []})


def _require_embeddings(job: Job, status: int) -> None:
    # The scheduler asks for no capability here: it is llama-server that refuses.
    if not job.model.can("embedding"):
        raise Refused(status, NO_EMBEDDINGS)


def _missing(name: str) -> str:
    return f'model "{name}" not found, try pulling it first'


def _inputs(value: object) -> list[str]:
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise Refused(400, "invalid input type")


async def _vector(job: Job, runner: Runner, text: str) -> list[float]:
    words = tokens(text)
    if len(words) > runner.context:
        if job.request.get("truncate", True) is False:
            raise Refused(400, TOO_LONG)
        words = words[: runner.context]
    pieces = job.host.engine.pieces(runner, words, Answer(), job.fault)
    async with aclosing(pieces):
        async for _ in pieces:
            pass  # an embedding is prefill only
    vector = unit_vector("".join(words), job.model.embedding_length)
    wanted = int(job.request.get("dimensions", 0))
    return normalise(vector[:wanted]) if 0 < wanted < len(vector) else vector
