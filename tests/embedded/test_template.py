import pytest

from arriero.embedded.template import Turn, droppable, render_chat

SYSTEM = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, "
    "trained by Hugging Face<|im_end|>\n"
)


def test_the_default_system_message_comes_first() -> None:
    assert render_chat([Turn("user", "U")]) == (
        f"{SYSTEM}<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_given_system_message_replaces_it() -> None:
    assert render_chat([Turn("system", "S"), Turn("user", "U")]) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
    )


def test_earlier_answers_are_closed() -> None:
    turns = [Turn("user", "U"), Turn("assistant", "A"), Turn("user", "V")]
    assert "<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nV" in render_chat(turns)


@pytest.mark.parametrize("begun", ["ZQXPREFILL", "Z Q ", "line\n", ""])
def test_a_trailing_answer_is_left_open_as_it_is(begun: str) -> None:
    rendered = render_chat([Turn("user", "U"), Turn("assistant", begun)])
    assert rendered == render_chat([Turn("user", "U")]) + begun


def test_an_empty_conversation_still_asks_for_an_answer() -> None:
    assert render_chat([]) == f"{SYSTEM}<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("roles", "index"),
    [
        ([], None),
        (["user"], None),
        (["system", "user"], None),
        (["user", "assistant", "user"], 0),
        (["system", "user", "user"], 1),
        (["system", "user", "system"], 1),
    ],
)
def test_the_oldest_that_may_go(roles: list[str], index: int | None) -> None:
    assert droppable([Turn(role, "") for role in roles]) == index
