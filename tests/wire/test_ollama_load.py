"""Requests that load a model, and that the alias's own requests need no other load."""

import json
from typing import Any

import pytest

from arriero.config.settings import KeepAlive, Model
from arriero.wire.canonical import Chat, Message, Sampling
from arriero.wire.ollama import OLLAMA
from arriero.wire.ollama_load import load_request


def load(model: Model, *, embeds: bool = False, keep: bool = False) -> tuple[bytes, dict[str, Any]]:
    path, body = load_request("llama3:8b", model, embeds=embeds, keep=keep)
    return path, json.loads(body)


def test_a_load_asks_for_nothing() -> None:
    path, body = load(Model(name="a", routes=()))
    assert (path, body) == (b"/api/generate", {"model": "llama3:8b", "stream": False})


def test_a_model_that_only_embeds_loads_for_no_input() -> None:
    path, body = load(Model(name="a", routes=()), embeds=True)
    assert (path, body) == (b"/api/embed", {"model": "llama3:8b", "input": []})


@pytest.mark.parametrize(
    ("own", "keep", "sent"),
    [(None, False, None), (None, True, -1), ("5m", True, "5m"), (0, False, 0), (-1, False, -1)],
)
@pytest.mark.parametrize("embeds", [False, True])
def test_the_alias_says_how_long(
    own: KeepAlive | None, sent: KeepAlive | None, *, keep: bool, embeds: bool
) -> None:
    _, body = load(Model(name="a", routes=(), keep_alive=own), keep=keep, embeds=embeds)
    assert body.get("keep_alive") == sent


def test_it_has_every_option_that_requests_have_on_their_own() -> None:
    model = Model(name="a", routes=(), context=8192, options={"num_gpu": 20, "temperature": 0.1})
    chat = Chat(model="a", messages=[Message("user", "Hi")], sampling=Sampling())
    asked = json.loads(OLLAMA.encode(chat, "llama3:8b", model)[1])["options"]
    assert load(model)[1]["options"] == asked
    assert asked["num_ctx"] == 8192
