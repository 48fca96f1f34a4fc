"""What OpenAI's SDK sends is decoded, and what we write is read by it, with no socket between."""

from collections.abc import Callable

import httpx2 as httpx  # what the SDK itself is built on
import openai
import pytest

from arriero.base.errors import BackendFailed, BadRequest
from arriero.wire.canonical import Chat, Chunk, Embedding, ToolCall, Usage, Vectors
from arriero.wire.openai_answer import ChatAnswer, CompletionAnswer, encode_embeddings
from arriero.wire.openai_errors import error_body, error_headers
from arriero.wire.openai_request import decode_chat, decode_completion, decode_embedding

Respond = Callable[[bytes], httpx.Response]
EVENTS = {"content-type": "text/event-stream"}
WEATHER = ToolCall("call_1", "weather", '{"city":"Lima"}')


def client(respond: Respond) -> openai.OpenAI:
    transport = httpx.MockTransport(lambda request: respond(request.content))
    return openai.OpenAI(
        api_key="sk-test",
        base_url="http://gateway/v1",
        max_retries=0,
        http_client=httpx.Client(transport=transport),
    )


def answer_for(chat: Chat) -> ChatAnswer:
    return ChatAnswer("1", 5, chat.model, include_usage=chat.include_usage)


def stream_of(*chunks: Chunk, error: BackendFailed | None = None) -> Respond:
    def respond(body: bytes) -> httpx.Response:
        chat = decode_chat(body)
        assert chat.stream
        encoder = answer_for(chat)
        said = b"".join(encoder.chunk(chunk) for chunk in chunks)
        return httpx.Response(
            200,
            headers=EVENTS,
            content=said + (encoder.error(error, "req7") if error else encoder.end()),
        )

    return respond


def test_chat_stream_with_helper() -> None:
    respond = stream_of(
        Chunk(thinking="hm"),
        Chunk("Hell"),
        Chunk("o\u2028"),
        Chunk(tool_calls=[WEATHER]),
        Chunk(finish_reason="stop", usage=Usage(3, 4, 1)),
    )
    with client(respond).chat.completions.stream(
        model="llama",
        messages=[{"role": "user", "content": "x"}],
        stream_options={"include_usage": True},
    ) as stream:
        got = stream.get_final_completion()
    choice = got.choices[0]
    assert choice.message.content == "Hello\u2028"
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    assert choice.message.tool_calls[0].function.arguments == WEATHER.arguments
    assert got.usage is not None
    assert got.usage.total_tokens == 7


def test_an_error_in_mid_stream_is_raised() -> None:
    respond = stream_of(Chunk("Hell"), error=BackendFailed("The backend broke off"))
    stream = client(respond).chat.completions.create(
        model="llama", messages=[{"role": "user", "content": "x"}], stream=True
    )
    assert next(stream).choices[0].delta.content == "Hell"
    with pytest.raises(openai.APIError, match=r"broke off .*req7"):
        next(stream)


def test_whole_chat() -> None:
    def respond(body: bytes) -> httpx.Response:
        chat = decode_chat(body)
        assert (chat.tools[0].name, chat.sampling.max_tokens) == ("weather", 9)
        assert chat.ignored == []
        return httpx.Response(200, content=answer_for(chat).whole(Chunk(tool_calls=[WEATHER])))

    got = client(respond).chat.completions.create(
        model="llama",
        messages=[{"role": "developer", "content": [{"type": "text", "text": "x"}]}],
        tools=[{"type": "function", "function": {"name": "weather"}}],
        max_completion_tokens=9,
        n=1,
    )
    assert got.choices[0].message.tool_calls is not None


def test_completion_stream() -> None:
    def respond(body: bytes) -> httpx.Response:
        asked = decode_completion(body)
        encoder = CompletionAnswer("1", 5, "llama", include_usage=False, echo=asked.prompt)
        chunks = (Chunk(" upon"), Chunk(finish_reason="length"))
        said = b"".join(encoder.chunk(chunk) for chunk in chunks)
        return httpx.Response(200, headers=EVENTS, content=said + encoder.end())

    stream = client(respond).completions.create(
        model="llama", prompt="Once", echo=True, stream=True
    )
    assert "".join(one.choices[0].text for one in stream) == "Once upon"


def test_embeddings_in_the_encoding_the_sdk_chooses() -> None:
    seen: list[Embedding] = []

    def respond(body: bytes) -> httpx.Response:
        seen.append(decode_embedding(body))
        vectors = Vectors([[0.5, -2.0]], Usage(prompt_tokens=1))
        return httpx.Response(200, content=encode_embeddings(vectors, seen[0].encoding, "e"))

    got = client(respond).embeddings.create(model="e", input="x")
    assert seen[0].encoding == "base64"
    assert got.data[0].embedding == [0.5, -2.0]


def test_refusals_name_their_parameter() -> None:
    def respond(body: bytes) -> httpx.Response:
        with pytest.raises(BadRequest) as caught:
            decode_chat(body)
        error = caught.value
        return httpx.Response(
            error.status, headers=error_headers(error), content=error_body(error, "req7")
        )

    with pytest.raises(openai.BadRequestError) as raised:
        client(respond).chat.completions.create(
            model="llama", messages=[{"role": "user", "content": "x"}], temperature=3
        )
    assert (raised.value.param, raised.value.code) == ("temperature", "invalid_request")
    assert "req7" in raised.value.message
