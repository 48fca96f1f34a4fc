"""The policy table: every row does what it says, and the documentation says the same."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from arriero.base.errors import UnsupportedParameter
from arriero.wire.canonical import Chat, Completion, Embedding
from arriero.wire.openai_params import MODEL_OPTIONS, RULES, Operation, Policy, Rule
from arriero.wire.openai_request import (
    ChatBody,
    CompletionBody,
    EmbeddingBody,
    decode_chat,
    decode_completion,
    decode_embedding,
)

DOCS = Path(__file__).parents[2] / "docs" / "parameters.md"
BODIES = {"chat": ChatBody, "completion": CompletionBody, "embedding": EmbeddingBody}
CASES = [(rule, operation) for rule in RULES for operation in rule.operations]


def decode(operation: Operation, **fields: Any) -> Chat | Completion | Embedding:
    body: dict[str, Any] = {"model": "m"}
    if operation == "chat":
        body["messages"] = [{"role": "user", "content": "x"}]
        return decode_chat(json.dumps(body | fields).encode())
    body["prompt" if operation == "completion" else "input"] = "x"
    data = json.dumps(body | fields).encode()
    return decode_completion(data) if operation == "completion" else decode_embedding(data)


def of_policy(policy: Policy) -> list[tuple[Rule, Operation]]:
    return [(rule, operation) for rule, operation in CASES if rule.policy is policy]


def label(case: object) -> str | None:
    return case.name if isinstance(case, Rule) else None


def test_no_parameter_has_two_fates() -> None:
    counts = Counter((rule.name, operation) for rule, operation in CASES)
    assert [case for case, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("operation", ["chat", "completion", "embedding"])
def test_mapped_parameters_are_the_known_fields(operation: str) -> None:
    mapped = {rule.name for rule, one in of_policy(Policy.MAP) if one == operation}
    assert mapped - set(MODEL_OPTIONS) == set(BODIES[operation].__struct_fields__)


@pytest.mark.parametrize(("rule", "operation"), of_policy(Policy.IGNORE), ids=label)
def test_ignored_parameters_are_told_and_change_nothing(rule: Rule, operation: Operation) -> None:
    got = decode(operation, **{rule.name: {"any": "thing"}})
    assert got.ignored == [rule.name]
    got.ignored = []
    assert got == decode(operation)


@pytest.mark.parametrize(("rule", "operation"), of_policy(Policy.REFUSE), ids=label)
def test_refused_parameters_are_named(rule: Rule, operation: Operation) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        decode(operation, **{rule.name: {"any": "thing"}})
    assert caught.value.param == rule.name
    assert caught.value.hint == rule.reason
    assert decode(operation, **{rule.name: None}) == decode(operation)


@pytest.mark.parametrize(("rule", "operation"), of_policy(Policy.REFUSE), ids=label)
def test_harmless_values_of_refused_parameters_pass(rule: Rule, operation: Operation) -> None:
    for value in rule.harmless:
        assert decode(operation, **{rule.name: value}) == decode(operation)


def test_true_is_no_number_of_answers() -> None:
    with pytest.raises(UnsupportedParameter):
        decode("chat", n=True)


@pytest.mark.parametrize("name", MODEL_OPTIONS)
@pytest.mark.parametrize("operation", ["chat", "completion", "embedding"])
def test_model_options_are_kept_apart(name: str, operation: Operation) -> None:
    for got in (decode(operation, **{name: 7}), decode(operation, options={name: 7})):
        assert {key: bytes(raw) for key, raw in got.model_options.items()} == {name: b"7"}
        assert got.ignored == []


def test_unknown_names_are_told_as_safe_header_text() -> None:
    got = decode("chat", **{"drop_params": True, "x\r\nSet-Cookie: a": 1, "é": 1, "": 1})
    assert got.ignored == ["drop_params", "(unprintable)"]


def test_told_names_are_bounded() -> None:
    fields = {f"unknown_{number}": 1 for number in range(33)}
    assert len(decode("chat", **fields).ignored) == 32
    assert decode("chat", **{"x" * 64: 1}).ignored == ["x" * 64]
    assert decode("chat", **{"x" * 65: 1}).ignored == ["(unprintable)"]


def test_parameters_of_another_operation_are_unknown_here() -> None:
    assert decode("embedding", temperature=1).ignored == ["temperature"]
    assert decode("chat", suffix="x").ignored == ["suffix"]


def expected_row(rule: Rule) -> str:
    policy = rule.policy.value
    if rule.harmless:
        values = ", ".join(f"`{json.dumps(value)}`" for value in rule.harmless)
        policy += f" (but not {values})"
    return f"| `{rule.name}` | {', '.join(rule.operations)} | {policy} | {rule.reason} |"


def test_documentation_shows_the_table() -> None:
    table = DOCS.read_text().split("## The table")[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert rows == [expected_row(rule) for rule in RULES]
