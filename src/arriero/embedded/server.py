"""Ollama's API over one engine: routes, refusals, and answers in one piece or in lines."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any, Final

import msgspec

from arriero.base.clock import Clock
from arriero.embedded import answers
from arriero.embedded.answers import Json, Piece, chat_piece, generate_piece
from arriero.embedded.asked import (
    ApiError,
    Asked,
    ChatAsked,
    EmbedAsked,
    GenerateAsked,
    Generation,
    ShowAsked,
    decode,
    refuse_chat,
    refuse_generate,
)
from arriero.embedded.engine import Cancelled, Engine, Outcome, normalise
from arriero.embedded.fit import fit_chat, fit_text
from arriero.embedded.residency import Residency, parse_keep_alive
from arriero.embedded.template import render_chat
from arriero.embedded.weights import Floats
from arriero.embedded.worker import Busy, Worker
from arriero.testing.http import Reply, Request
from arriero.wire.inventory import full_name

NDJSON: Final = "application/x-ndjson"
BUSY: Final = "server busy, please try again.  maximum pending requests exceeded"

Route = Callable[["OllamaApi", Request, Reply], Awaitable[None]]


class OllamaApi:
    """Answers for one model called `name`; `handle` is an `arriero.testing.http` handler."""

    def __init__(self, name: str, engine: Engine, worker: Worker, clock: Clock) -> None:
        self.name = full_name(name)
        self.residency = Residency()
        self._engine = engine
        self._worker = worker
        self._clock = clock
        self._started_s = clock.unix_s()

    def __repr__(self) -> str:
        return f"<OllamaApi {self.name} {self.residency!r}>"

    async def handle(self, request: Request, reply: Reply) -> None:
        """Answer one request; whatever the client did wrong is answered in Ollama's words."""
        routes = ROUTES.get(request.path)
        if routes is None:
            reply.text(404, "404 page not found")
            return
        route = routes.get("GET" if request.method == "HEAD" else request.method)
        if route is None:
            reply.text(405, "405 method not allowed", {"Allow": ", ".join(routes)})
            return
        try:
            await route(self, request, reply)
        except ApiError as refusal:
            reply.json(refusal.status, {"error": refusal.message})
        except Busy:
            reply.json(503, {"error": BUSY})

    # What the host says of itself

    async def root(self, _request: Request, reply: Reply) -> None:
        """Answer `GET /`."""
        reply.text(200, "Ollama is running")

    async def version(self, _request: Request, reply: Reply) -> None:
        """Answer `GET /api/version`."""
        reply.json(200, {"version": answers.VERSION})

    async def tags(self, _request: Request, reply: Reply) -> None:
        """Answer `GET /api/tags`."""
        reply.json(200, answers.tags(self.name, self._engine.header, self._started_s))

    async def processes(self, _request: Request, reply: Reply) -> None:
        """Answer `GET /api/ps`."""
        now_s = self._clock.unix_s()
        reply.json(200, answers.loaded(self.name, self._engine.header, self.residency, now_s))

    async def show(self, request: Request, reply: Reply) -> None:
        """Answer `POST /api/show`."""
        asked = decode(request.body, ShowAsked)
        self._require(asked.model or asked.name, 400)
        reply.json(200, answers.show(self._engine.header, self._started_s))

    # What the model says

    async def chat(self, request: Request, reply: Reply) -> None:
        """Answer `POST /api/chat`; without messages it loads or unloads the model."""
        asked = decode(request.body, ChatAsked)
        self._require(asked.model, 400)
        refuse_chat(asked)
        if not asked.messages:
            await self._load(asked, chat_piece, reply)
            return
        room = self._engine.context(asked.sampling) - 1
        text, tokens = fit_chat(
            asked.turns, self._engine.tokenizer.encode, room, truncate=asked.truncate is not False
        )
        if asked.debug_render_only:
            nobody: Json = {"message": {"role": "", "content": ""}}
            reply.json(200, answers.rendered(asked.model, self._clock.unix_s(), nobody, text))
            return
        await self._generate(asked, tokens, chat_piece, reply)

    async def generate(self, request: Request, reply: Reply) -> None:
        """Answer `POST /api/generate`; without a prompt it loads or unloads the model."""
        asked = decode(request.body, GenerateAsked)
        self._require(asked.model, 404)
        refuse_generate(asked)
        if not asked.prompt:
            await self._load(asked, generate_piece, reply)
            return
        text = asked.prompt if asked.raw else render_chat(asked.turns)
        if asked.debug_render_only:
            said = generate_piece("")
            reply.json(200, answers.rendered(asked.model, self._clock.unix_s(), said, text))
            return
        room = self._engine.context(asked.sampling) - 1
        tokens = fit_text(
            self._engine.tokenizer.encode(text),
            room,
            asked.sampling.num_keep,
            truncate=asked.truncate is not False,
        )
        await self._generate(asked, tokens, generate_piece, reply)

    async def embed(self, request: Request, reply: Reply) -> None:
        """Answer `POST /api/embed`."""
        asked = decode(request.body, EmbedAsked)
        self._require(asked.model, 400)
        begun_s = self._clock.now_s()
        room = self._engine.context(asked.sampling)
        inputs = [self._engine.tokenizer.encode(text)[: room + 1] for text in asked.texts]
        if asked.truncate is False and any(len(tokens) > room for tokens in inputs):
            raise ApiError(400, "the input length exceeds the context length")
        inputs = [tokens[:room] for tokens in inputs]
        vectors = await self._vectors(asked, inputs)
        if asked.dimensions:
            vectors = [normalise(vector[: asked.dimensions]) for vector in vectors]
        total_s = self._clock.now_s() - begun_s
        count = sum(map(len, inputs))
        reply.json(200, answers.embedded(asked.model, vectors, count, total_s))

    # Work in the model's thread

    async def _generate(
        self, asked: Generation, tokens: list[int], piece: Piece, reply: Reply
    ) -> None:
        """Answer a prompt, in lines or whole."""
        keep_alive_s, cold = self._begin(asked)
        outcome = Outcome()
        begun_s = self._clock.now_s()

        def job(cancelled: Cancelled) -> Iterator[str]:
            if cold:
                self._engine.forget()
            return self._engine.generate(tokens, asked.sampling, outcome, cancelled)

        parts: list[str] = []
        async with aclosing(self._worker.stream(job)) as pieces:
            async for text in pieces:
                if asked.streamed:
                    await self._write(
                        reply, answers.line(asked.model, self._clock.unix_s(), piece(text))
                    )
                else:
                    parts.append(text)
        self._end(asked, keep_alive_s)
        said = piece("".join(parts))
        last = answers.last_line(asked.model, self._clock.unix_s(), said, outcome.reason)
        last |= answers.counters(outcome, self._clock.now_s() - begun_s, 0.0)
        await self._finish(asked, last, reply)

    async def _vectors(self, asked: Asked, inputs: list[list[int]]) -> list[Floats]:
        """Embed every input, in the order given."""
        keep_alive_s, _ = self._begin(asked)

        def job(cancelled: Cancelled) -> Iterator[Floats]:
            for tokens in inputs:
                if (vector := self._engine.embed(tokens, cancelled)) is not None:
                    yield vector

        async with aclosing(self._worker.stream(job)) as vectors:
            found = [vector async for vector in vectors]
        self._end(asked, keep_alive_s)
        return found

    async def _load(self, asked: Generation, piece: Piece, reply: Reply) -> None:
        """Load or, with a `keep_alive` of 0, unload: both are a matter of standing here."""
        keep_alive_s, _ = self._begin(asked)
        self._end(asked, keep_alive_s)
        reason = "load" if keep_alive_s else "unload"
        last = answers.last_line(asked.model, self._clock.unix_s(), piece(""), reason)
        await self._finish(asked, last, reply)

    def _begin(self, asked: Asked) -> tuple[float, bool]:
        """Count the model as loaded; return for how long from now, and whether it was not."""
        try:
            keep_alive_s = parse_keep_alive(asked.keep_alive)
        except ValueError as error:
            raise ApiError(400, str(error)) from error
        now_s = self._clock.unix_s()
        cold = not self.residency.loaded(now_s)
        self.residency.use(now_s, keep_alive_s, self._engine.context(asked.sampling))
        return keep_alive_s, cold

    def _end(self, asked: Asked, keep_alive_s: float) -> None:
        """Let the model stay for as long as it was asked to, which may be not at all."""
        context = self._engine.context(asked.sampling)
        self.residency.use(self._clock.unix_s(), keep_alive_s, context)

    def _require(self, model: str, status_when_empty: int) -> None:
        """Raise ApiError unless `model` is the one that is served."""
        if not model:
            raise ApiError(status_when_empty, "model is required")
        if full_name(model) != self.name:
            raise ApiError(404, f"model '{model}' not found")

    async def _finish(self, asked: Generation, last: Json, reply: Reply) -> None:
        """Send the last line, or the only object."""
        if asked.streamed:
            await self._write(reply, last)
            reply.end()
        else:
            reply.json(200, last)

    async def _write(self, reply: Reply, said: dict[str, Any]) -> None:
        """Send one line; the head goes with the first one, as with Ollama."""
        if not reply.started:
            reply.start(200, NDJSON)
        await reply.write(msgspec.json.encode(said) + b"\n")


ROUTES: Final[dict[str, dict[str, Route]]] = {
    "/": {"GET": OllamaApi.root},
    "/api/version": {"GET": OllamaApi.version},
    "/api/tags": {"GET": OllamaApi.tags},
    "/api/ps": {"GET": OllamaApi.processes},
    "/api/show": {"POST": OllamaApi.show},
    "/api/chat": {"POST": OllamaApi.chat},
    "/api/generate": {"POST": OllamaApi.generate},
    "/api/embed": {"POST": OllamaApi.embed},
}
