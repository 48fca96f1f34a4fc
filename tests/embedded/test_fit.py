import pytest

from arriero.embedded.asked import ApiError
from arriero.embedded.fit import fit_chat, fit_text
from arriero.embedded.template import Turn, render_chat

TURNS = [Turn("system", "S"), Turn("user", "old"), Turn("assistant", "older"), Turn("user", "new")]


def letters(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def length(turns: list[Turn]) -> int:
    return len(render_chat(turns))


def test_what_fits_exactly_stays_whole() -> None:
    text, tokens = fit_chat(TURNS, letters, length(TURNS), truncate=True)
    assert text == render_chat(TURNS)
    assert tokens == letters(text)


@pytest.mark.parametrize(
    ("less", "left"), [(1, [0, 2, 3]), (length(TURNS) - length([TURNS[0], TURNS[3]]), [0, 3])]
)
def test_the_oldest_turns_go_first(less: int, left: list[int]) -> None:
    text, _ = fit_chat(TURNS, letters, length(TURNS) - less, truncate=True)
    assert text == render_chat([TURNS[index] for index in left])


def test_system_and_last_turn_never_go() -> None:
    with pytest.raises(ApiError, match="longer than the context") as caught:
        fit_chat(TURNS, letters, length([TURNS[0], TURNS[3]]) - 1, truncate=True)
    assert caught.value.status == 400


def test_without_truncation_nothing_goes() -> None:
    with pytest.raises(ApiError, match="longer than the context"):
        fit_chat(TURNS, letters, length(TURNS) - 1, truncate=False)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(10, list(range(10))), (9, [0, 1, 3, 4, 5, 6, 7, 8, 9]), (4, [0, 1, 8, 9])],
)
def test_a_text_loses_its_middle(count: int, expected: list[int]) -> None:
    assert fit_text(list(range(10)), count, 2, truncate=True) == expected


@pytest.mark.parametrize("keep", [-1, 0, 5, 100])
def test_a_text_always_fits_whatever_it_should_keep(keep: int) -> None:
    fitted = fit_text(list(range(10)), 3, keep, truncate=True)
    assert len(fitted) == 3
    assert fitted[-1] == 9


def test_a_text_is_refused_without_truncation() -> None:
    with pytest.raises(ApiError, match="longer than the context"):
        fit_text([1, 2, 3], 2, 0, truncate=False)
