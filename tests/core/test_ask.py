"""How urgent a request is, whose conversation it is, and about how much work."""

from typing import Any

import pytest

from arriero.core.ask import (
    IMAGE_TOKENS,
    OUTPUT_TOKENS,
    Priority,
    ask_for,
    output_tokens,
    priority_of,
    prompt_tokens,
)
from arriero.core.principal import Caller
from arriero.wire.canonical import (
    CanonicalRequest,
    Chat,
    Completion,
    Embedding,
    Message,
    Part,
    Sampling,
)

TITLE = "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history."


def chat(*turns: str | list[Part], stream: bool = False, **more: Any) -> Chat:
    messages = [Message(role="user", content=turn) for turn in turns or ("hello",)]
    text_only = all(isinstance(turn, str) for turn in turns)
    sampling = Sampling(max_tokens=more.pop("max_tokens", None))
    return Chat(
        model="m", messages=messages, stream=stream, text_only=text_only, sampling=sampling, **more
    )


COMPLETION = Completion(model="m", prompt="p", sampling=Sampling())
EMBEDDING = Embedding(model="m", inputs=["p"])


@pytest.mark.parametrize(
    ("request_", "priority"),
    [
        (chat(stream=True), Priority.INTERACTIVE),
        (chat(), Priority.DEFAULT),
        (COMPLETION, Priority.DEFAULT),
        (EMBEDDING, Priority.EMBEDDING),
        (chat(TITLE), Priority.BACKGROUND),
        (chat(TITLE, stream=True), Priority.INTERACTIVE),
        (chat("before", TITLE), Priority.DEFAULT),
        (chat([Part(text=TITLE)]), Priority.DEFAULT),
        (chat("What does `### Task:` mean?"), Priority.DEFAULT),
        (
            chat("### Task:\nGenerate 1-3 broad tags categorizing the main themes"),
            Priority.BACKGROUND,
        ),
        (
            chat("### Task:\nSuggest 3-5 relevant follow-up questions or prompts"),
            Priority.BACKGROUND,
        ),
        (
            chat("Your task is to reflect the speaker's likely facial expression through"),
            Priority.BACKGROUND,
        ),
        # The answer waits for these, and the user for the answer.
        (chat("### Task:\nAnalyze the chat history to determine the necessity"), Priority.DEFAULT),
    ],
)
def test_the_class_of_what_is_asked(request_: CanonicalRequest, priority: Priority) -> None:
    assert priority_of(Caller("k"), request_) is priority
    assert priority_of(Caller("k", trusted=True), request_) is priority


@pytest.mark.parametrize(
    ("task", "trusted", "priority"),
    [
        (b"title_generation", False, Priority.BACKGROUND),
        (b"tags_generation", True, Priority.BACKGROUND),
        (b"follow_up_generation", True, Priority.BACKGROUND),
        (b"emoji_generation", True, Priority.BACKGROUND),
        (b"query_generation", True, Priority.INTERACTIVE),
        (b"query_generation", False, Priority.DEFAULT),
        (b"", True, Priority.DEFAULT),
    ],
)
def test_tasks_of_open_webui_by_its_header(*, task: bytes, trusted: bool, priority: int) -> None:
    assert priority_of(Caller("k", trusted=trusted, task=task), chat()) is Priority(priority)


@pytest.mark.parametrize("wanted", Priority)
@pytest.mark.parametrize(
    "request_", [chat(stream=True), chat(), EMBEDDING, chat(TITLE)], ids=["0", "1", "2", "3"]
)
def test_everybody_may_step_back_and_a_trusted_key_forward(
    request_: CanonicalRequest, wanted: Priority
) -> None:
    natural = priority_of(Caller("k"), request_)
    assert priority_of(Caller("k", trusted=True, priority=wanted), request_) is wanted
    assert priority_of(Caller("k", priority=wanted), request_) is max(wanted, natural)
    for least in Priority:
        slow = Caller("k", trusted=True, priority=wanted, most_urgent=least)
        assert priority_of(slow, request_) is max(wanted, least)
        assert priority_of(Caller("k", most_urgent=least), request_) is max(natural, least)


def test_the_prompt_is_guessed_from_the_bodys_length() -> None:
    assert prompt_tokens(chat("x"), 4000) == 1001
    assert prompt_tokens(EMBEDDING, 0) == 1


def test_a_picture_costs_what_models_make_of_it() -> None:
    picture = Part(image_base64="A" * 4_000_000, image_type="image/png")
    seen = prompt_tokens(chat([Part(text="what is it?"), picture]), 4_000_400)
    assert seen == pytest.approx(IMAGE_TOKENS + 100, abs=2)


@pytest.mark.parametrize(
    ("limit", "guess"),
    [(None, OUTPUT_TOKENS), (7, 7), (0, 0), (-1, OUTPUT_TOKENS), (100_000, OUTPUT_TOKENS)],
)
def test_the_answer_is_guessed_by_its_limit(limit: int | None, guess: int) -> None:
    assert output_tokens(chat(max_tokens=limit)) == guess


def test_an_embedding_has_no_answer_to_speak_of() -> None:
    assert output_tokens(EMBEDDING) == 0


def test_all_of_it_together() -> None:
    who = Caller("k", "u", "k/u", trusted=True, priority=Priority.BACKGROUND, session="k/u:c1")
    wanted = chat(stream=True, max_tokens=10)
    ask = ask_for(who, wanted, 400)
    assert (ask.principal, ask.priority, ask.session) == ("k/u", Priority.BACKGROUND, "k/u:c1")
    assert (ask.prompt_tokens, ask.output_tokens, ask.request) == (101, 10, wanted)


@pytest.mark.parametrize(
    ("header", "field", "session"),
    [
        ("k/u:c1", "", "k/u:c1"),
        ("", "f1", "k/u:f1"),
        ("k/u:c1", "f1", "k/u:c1"),
        ("", "", ""),
        ("", "x" * 5000, f"k/u:{'x' * 128}"),
    ],
)
def test_a_conversation_is_named_by_the_head_and_else_by_the_body(
    header: str, field: str, session: str
) -> None:
    who = Caller("k", "u", "k/u", session=header)
    assert ask_for(who, chat(cache_key=field), 40).session == session


def test_a_name_in_the_body_is_unique_to_its_principal() -> None:
    asked = [ask_for(Caller("k", name=name), chat(cache_key="c"), 40) for name in ("p", "q")]
    assert asked[0].session != asked[1].session
