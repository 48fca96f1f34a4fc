"""How problems print, and in which order."""

from arriero.config.problems import ConfigError, Problem


def test_an_error_prints_place_message_and_hint() -> None:
    problem = Problem(3, 7, "unknown key `prot`", "did you mean `port`?")
    assert (
        problem.render("c.yaml") == "c.yaml:3:7: unknown key `prot`\n  hint: did you mean `port`?"
    )


def test_a_note_says_so() -> None:
    assert Problem(1, 2, "m", None, "note").render("c") == "c:1:2: note: m"


def test_what_cannot_be_printed_is_not_printed() -> None:
    shown = Problem(1, 2, "unknown key `a\x1b[2J\nb`").render("c")
    assert shown == "c:1:2: unknown key `a\ufffd[2J\ufffdb`"


def test_errors_are_told_in_file_order_with_and_without_hints() -> None:
    first, second = Problem(2, 1, "a", "hint"), Problem(2, 1, "a")
    error = ConfigError("c", [Problem(10, 1, "z"), first, second, Problem(2, 0, "b")])
    assert [(p.line, p.column) for p in error.problems] == [(2, 0), (2, 1), (2, 1), (10, 1)]
    assert str(error).startswith("c:2:0: b\n")
