"""A simulation of llama.cpp's and vLLM's `/v1`, smaller than Ollama's and with the same faults.

    async with OpenAiSim(SimModel("qwen3"), flavour="vllm", slots=4) as sim: ...

One model, loaded from the start (`loading` makes it answer 503 as llama-server does while it
loads); `slots` generations at a time and a queue without bound.
"""

import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, Final

import msgspec

from arriero.testing.clock import LoopClock
from arriero.testing.faults import Fault
from arriero.testing.host import SimHost
from arriero.testing.http import Reply, Request
from arriero.testing.ollama import options as option
from arriero.testing.ollama.compose import Answer, Ask, compose
from arriero.testing.ollama.engine import Cut, Engine, Piece, RunnerFailed, SilentEnd
from arriero.testing.ollama.models import SimModel, Turn
from arriero.testing.ollama.scheduler import Runner
from arriero.testing.ollama.template import render
from arriero.testing.openai_bodies import Flavour, Writer, error_body, models_body
from arriero.testing.text import tokens, unit_vector

CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
EMBEDDINGS: Final = "/v1/embeddings"
_POSTS: Final = frozenset({CHAT, COMPLETIONS, EMBEDDINGS})
# What shows a prompt without answering it: llama.cpp renders, vLLM cuts into tokens and joins them.
_SHOWS: Final[dict[Flavour, frozenset[str]]] = {
    "llama.cpp": frozenset({"/apply-template"}),
    "vllm": frozenset({"/tokenize", "/detokenize"}),
}
_STATUS_TEXTS: Final = {503: "Loading model", 404: "File Not Found", 429: "Too Many Requests"}

encode = msgspec.json.encode


class _Refused(Exception):
    def __init__(self, status: int, text: str, **more: object) -> None:
        super().__init__(text)
        self.status = status
        self.more = more


class OpenAiSim(SimHost):
    """A server with one model on a socket of its own for the length of an `async with` block."""

    def __init__(  # noqa: PLR0913 - a server's settings, each by its name
        self,
        model: SimModel,
        *,
        flavour: Flavour = "llama.cpp",
        slots: int = 1,
        context_length: int = 4096,
        api_key: str = "",
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__(host, port, seed=0)
        self.model = model
        self.flavour: Flavour = flavour
        self.loading = False
        self._api_key = api_key
        self._slots = slots
        self._context = context_length
        self._clock = LoopClock()
        self._engine = Engine(lambda: None)
        self._started_s = self._clock.unix_s()
        self._vocabulary: list[str] = []  # vLLM's token ids are places in it
        self._forget()

    def _forget(self) -> None:
        options = {"num_ctx": self._context}
        stats = self.stats.of(self.model.name)
        self._runner = Runner(self.model, options, self._slots, stats)

    def _generates(self, path: str) -> bool:
        return path in _POSTS

    def _refuse_with(self, fault: Fault, request: Request, reply: Reply) -> None:
        del request
        usual = _STATUS_TEXTS.get(fault.status, "Internal Server Error")
        self._error(reply, fault.status, fault.text or usual)

    async def _answer(self, request: Request, reply: Reply, fault: Fault | None) -> None:
        try:
            self._admit(request)
            if request.path in _POSTS:
                await self._generate(request, reply, fault)
            elif request.path in _SHOWS[self.flavour]:
                reply.json(200, self._shown(request))
            elif request.path == "/v1/models":
                context = self._context
                reply.json(200, models_body(self.flavour, self.model, context, self._started_s))
            else:
                reply.json(200, {"status": "ok"})
        except _Refused as refused:
            self._error(reply, refused.status, str(refused), **refused.more)

    def _admit(self, request: Request) -> None:
        gets = request.path in {"/health", "/v1/models"} and request.method == "GET"
        known = request.path in _POSTS | _SHOWS[self.flavour]
        if not gets and not (known and request.method == "POST"):
            raise _Refused(404, "File Not Found" if self.flavour == "llama.cpp" else "Not Found")
        wanted = f"Bearer {self._api_key}"
        public = request.path == "/health"
        if self._api_key and not public and request.headers.get("authorization") != wanted:
            raise _Refused(401, "Invalid API Key")
        if self.loading:
            raise _Refused(503, "Loading model")

    async def _generate(self, request: Request, reply: Reply, fault: Fault | None) -> None:
        body = self._body(request)
        if request.path == EMBEDDINGS:
            await self._embed(body, reply, fault)
            return
        chat = request.path == CHAT
        if not self.model.can("completion"):
            raise _Refused(501, "This server does not support completions.")
        writer = Writer(self.flavour, body, chat=chat)
        prompt, ask = self._chat(body, writer) if chat else self._completion(body)
        if len(prompt) > self._context:
            raise self._too_long(len(prompt))
        answer = compose(self.model, ask, _stops(body), _limit(body, self._context))
        answer_id = f"{'chatcmpl' if chat else 'cmpl'}-{zlib.crc32(request.body):08x}"
        writer.begin(answer_id, self.model.name, self._clock.unix_s())
        pieces = self._engine.pieces(self._runner, prompt, answer, fault)
        async with aclosing(pieces):
            await self._deliver(pieces, writer, reply, stream=bool(body.get("stream")))

    def _shown(self, request: Request) -> dict[str, Any]:
        """Return the prompt of a chat, in the form of the path that was asked."""
        body = self._body(request)
        if request.path == "/detokenize":
            return {"prompt": "".join(self._vocabulary[token] for token in body["tokens"])}
        prompt, _ = self._chat(body, Writer(self.flavour, body, chat=True))
        if self.flavour == "llama.cpp":
            return {"prompt": "".join(prompt)}
        first = len(self._vocabulary)
        self._vocabulary += prompt
        ids = list(range(first, len(self._vocabulary)))
        return {"count": len(ids), "max_model_len": self._context, "tokens": ids}

    def _body(self, request: Request) -> dict[str, Any]:
        try:
            body = msgspec.json.decode(request.body, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise _Refused(500 if self.flavour == "llama.cpp" else 400, str(error)) from None
        named = body.get("model") or self.model.name
        # llama-server serves its one model whatever it is called; vLLM insists.
        if self.flavour == "vllm" and named != self.model.name:
            raise _Refused(404, f"The model `{named}` does not exist.")
        return body

    def _chat(self, body: Mapping[str, Any], writer: Writer) -> tuple[list[str], Ask]:
        messages = body.get("messages")
        if messages is None:
            raise _Refused(400, "'messages' is required")
        if not isinstance(messages, list):
            raise _Refused(400, "Expected 'messages' to be an array")
        plain = [{**message, "content": _text_of(message)} for message in messages]
        begun = self._begun(body, plain)
        writer.repeats = begun if self.flavour == "llama.cpp" else ""
        prompt = tokens(render(plain, body.get("tools") or (), prefill=bool(begun)))
        users = [message["content"] for message in plain if message.get("role") == "user"]
        last = plain[-1] if plain else {}
        ask = Ask(
            Turn(self.model.name, users[-1] if users else "", 0, tuple(plain)),
            begun=begun,
            tools=body.get("tools") or (),
            think=self.model.can("thinking"),
            format=_format(body.get("response_format") or {}),
            after_tool=last["content"] if last.get("role") == "tool" else None,
        )
        return prompt, ask

    def _begun(self, body: Mapping[str, Any], messages: list[dict[str, Any]]) -> str:
        trailing = [message["content"] for message in messages[-2:] if _is_assistant(message)]
        asked = bool(body.get("continue_final_message"))
        if asked and body.get("add_generation_prompt", self.flavour == "vllm"):
            text = "Cannot set both add_generation_prompt and continue_final_message to true."
            raise _Refused(400, text)
        if not messages or not _is_assistant(messages[-1]):
            return ""
        if len(trailing) > 1:
            raise _Refused(400, "Cannot have 2 or more assistant messages at the end of the list.")
        return str(trailing[-1]) if asked or self.flavour == "llama.cpp" else ""

    def _completion(self, body: Mapping[str, Any]) -> tuple[list[str], Ask]:
        prompt = str(body.get("prompt", ""))
        return tokens(prompt), Ask(Turn(self.model.name, prompt, 0))

    async def _embed(self, body: Mapping[str, Any], reply: Reply, fault: Fault | None) -> None:
        if not self.model.can("embedding"):
            text = "This server does not support embeddings. Start it with `--embeddings`"
            raise _Refused(501, text)
        given = body.get("input")
        # A list of token ids is one input; so is a string.
        inputs = given if isinstance(given, list) and not _is_ids(given) else [given]
        counted, data = 0, []
        for index, each in enumerate(inputs):
            words = tokens(each) if isinstance(each, str) else [str(token) for token in each or ()]
            counted += len(words)
            vector = unit_vector("".join(words), self.model.embedding_length)
            data.append({"object": "embedding", "embedding": vector, "index": index})
            pieces = self._engine.pieces(self._runner, words, Answer(), fault)
            async with aclosing(pieces):
                await _drained(pieces, reply)
        if not reply.finished:
            usage = {"prompt_tokens": counted, "total_tokens": counted}
            whole = {"object": "list", "data": data, "model": self.model.name, "usage": usage}
            reply.json(200, whole)

    async def _deliver(
        self, pieces: AsyncIterator[Piece], writer: Writer, reply: Reply, *, stream: bool
    ) -> None:
        try:
            if stream:
                await _stream(pieces, writer, reply)
            else:
                reply.send(200, encode(writer.whole([piece async for piece in pieces])))
        except RunnerFailed as failed:
            await self._failed(reply, str(failed))
        except SilentEnd:
            _end(reply)
        except Cut as cut:
            _cut(cut, reply)

    async def _failed(self, reply: Reply, text: str) -> None:
        if not reply.started:
            self._error(reply, 500, text)
            return
        await reply.write(b"data: %b\n\n" % encode(error_body(self.flavour, 500, text)))
        reply.end()

    def _too_long(self, count: int) -> _Refused:
        if self.flavour == "vllm":
            text = f"This model's maximum context length is {self._context} tokens."
            return _Refused(400, f"{text} However, you requested {count} tokens.")
        text = f"request ({count} tokens) exceeds the available context size"
        return _Refused(
            400,
            f"{text} ({self._context} tokens), try increasing it",
            type="exceed_context_size_error",
            n_prompt_tokens=count,
            n_ctx=self._context,
        )

    def _error(self, reply: Reply, status: int, text: str, **more: object) -> None:
        reply.json(status, error_body(self.flavour, status, text, **more))


async def _stream(pieces: AsyncIterator[Piece], writer: Writer, reply: Reply) -> None:
    called = False
    async for piece in pieces:
        opening = not reply.started
        if opening:
            reply.start(200, "text/event-stream")
        called = called or bool(piece.tool_calls)
        chunks = writer.last(piece, called=called) if piece.done_reason else writer.chunks(piece)
        if opening and not piece.done_reason:
            chunks = writer.opening() + chunks
        data = b"".join(b"data: %b\n\n" % encode(chunk) for chunk in chunks)
        await reply.write(data[: len(data) // 2] + b"\n\n" if piece.malformed else data)
    await reply.write(b"data: [DONE]\n\n")
    reply.end()


async def _drained(pieces: AsyncIterator[Piece], reply: Reply) -> None:
    try:
        async for _ in pieces:
            pass  # an embedding is prefill only
    except Cut as cut:
        _cut(cut, reply)
    except (RunnerFailed, SilentEnd) as failed:
        raise _Refused(500, str(failed)) from None


def _end(reply: Reply) -> None:
    if not reply.started:
        reply.start(200, "text/event-stream")
    reply.end()


def _cut(cut: Cut, reply: Reply) -> None:
    if cut.reset:
        reply.reset()
    else:
        reply.close()


def _is_assistant(message: Mapping[str, Any]) -> bool:
    return message.get("role") == "assistant" and not message.get("tool_calls")


def _is_ids(value: list[Any]) -> bool:
    return bool(value) and all(isinstance(item, int) for item in value)


def _text_of(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content)
    return str(content or "")


def _stops(body: Mapping[str, Any]) -> list[str]:
    stop = body.get("stop") or []
    return [stop] if isinstance(stop, str) else list(stop)


def _limit(body: Mapping[str, Any], context: int) -> int:
    asked = body.get("max_completion_tokens") or body.get("max_tokens") or -1
    return option.predict_limit(int(asked), context)


def _format(response_format: Mapping[str, Any]) -> object:
    if response_format.get("type") == "json_object":
        return "json"
    return (response_format.get("json_schema") or {}).get("schema")
