"""Errors: the tree in the docstring is the tree in the code."""

import re
from collections.abc import Iterator

import pytest

from arriero.base import errors
from arriero.base.errors import BackendError, BadRequest, ClientError, Fault, GatewayError


def tree(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


KINDS = list(tree(GatewayError))


def test_every_error_stands_in_the_docstring_with_its_status() -> None:
    rows = re.findall(r"^[ |+-]+(\w+) +(\d{3})", errors.__doc__ or "", re.MULTILINE)
    written = {name: int(status) for name, status in rows}
    for kind in KINDS:
        assert kind.__name__ in (errors.__doc__ or ""), kind
        if kind.__name__ in written:
            assert kind.status == written[kind.__name__]
    assert len(written) >= 15


@pytest.mark.parametrize("kind", KINDS)
def test_whose_fault_and_which_status_agree(kind: type[GatewayError]) -> None:
    assert (kind.fault is Fault.CLIENT) is issubclass(kind, ClientError)
    if kind.status != 429:  # said of limits that a client knows, and of a queue that is full
        assert (kind.status < 500) is (kind.fault is Fault.CLIENT)


@pytest.mark.parametrize("kind", KINDS)
def test_codes_are_snake_case(kind: type[GatewayError]) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code)


@pytest.mark.parametrize("kind", list(tree(BackendError)))
def test_after_our_own_failover_no_sdk_shall_try_again(kind: type[GatewayError]) -> None:
    assert kind.retryable is False


def test_the_text_ends_with_the_way_out() -> None:
    error = BadRequest("no such thing", param="thing", hint="take another", retry_after_s=3)
    assert error.text == "no such thing (hint: take another)"
    assert str(error) == error.message == "no such thing"
    assert (error.param, error.retry_after_s) == ("thing", 3)


def test_without_a_way_out_the_text_is_the_message() -> None:
    assert BadRequest("no such thing").text == "no such thing"


def test_an_instance_may_know_its_code_better_than_its_class() -> None:
    assert BadRequest("too hot", code="temperature_out_of_range").code == "temperature_out_of_range"
    assert BadRequest("too hot").code == BadRequest.code
