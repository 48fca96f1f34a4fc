"""Verdicts about templates are kept, and not without end."""

from arriero.core import prefill
from arriero.core.prefill import Ending, Prefill, Template, Verdicts


def test_a_verdict_is_about_weights_and_version() -> None:
    verdicts = Verdicts()
    one = Template("d1", "0.33.0")
    assert verdicts.get(one) is None
    verdicts.put(one, Prefill(Ending.KEPT))
    assert verdicts.get(one) == Prefill(Ending.KEPT)
    assert verdicts.get(Template("d1", "0.34.0")) is None
    assert verdicts.get(Template("d2", "0.33.0")) is None


def test_the_worse_of_two_endings_is_the_smaller() -> None:
    assert min(Ending.KEPT, Ending.TRIMMED) is Ending.TRIMMED
    assert min(Ending.TRIMMED, Ending.CLOSED) is Ending.CLOSED


def test_the_oldest_verdict_makes_room() -> None:
    verdicts = Verdicts()
    for number in range(prefill.VERDICTS_MAX + 1):
        verdicts.put(Template(str(number), ""), Prefill())
    assert verdicts.get(Template("0", "")) is None
    assert verdicts.get(Template("1", "")) is not None
    verdicts.put(Template("1", ""), Prefill(Ending.KEPT))
    assert verdicts.get(Template("2", "")) is not None, "a new word about a known one costs none"
