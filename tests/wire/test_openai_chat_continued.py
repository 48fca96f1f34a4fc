"""The rest of a stream bears what its beginning bore."""

import json
from typing import Any

from arriero.base.errors import BackendFailed
from arriero.wire.canonical import Chunk, Usage
from arriero.wire.openai_chat_continued import ContinuedChatAnswer


def events(data: bytes) -> list[Any]:
    return [json.loads(line[6:]) for line in data.decode().splitlines() if line[:6] == "data: "]


def test_the_id_and_time_are_the_backends_and_there_is_no_second_role() -> None:
    answer = ContinuedChatAnswer('gen-"1', 7, "llama", include_usage=True)
    said = events(
        answer.chunk(Chunk(" more")) + answer.chunk(Chunk(finish_reason="stop", usage=Usage(3, 4)))
    )
    assert {(one["id"], one["created"], one["model"]) for one in said} == {('gen-"1', 7, "llama")}
    assert {one["object"] for one in said} == {"chat.completion.chunk"}
    assert said[0]["choices"][0]["delta"] == {"content": " more"}
    assert said[1]["choices"][0]["finish_reason"] == "stop"
    assert said[2]["usage"]["total_tokens"] == 7


def test_it_ends_as_every_stream_does() -> None:
    answer = ContinuedChatAnswer("x", 7, "llama", include_usage=False)
    assert answer.end() == b"data: [DONE]\n\n"
    failed = events(answer.error(BackendFailed("gone"), "req-1"))
    assert "req-1" in failed[0]["error"]["message"]
