"""Failures as OpenAI's clients read them."""

import json

import pytest

from arriero.base.errors import (
    BackendFailed,
    BadRequest,
    Draining,
    GatewayError,
    InternalError,
    NoBackend,
    Unauthorized,
    UnknownModel,
    UnsupportedParameter,
)
from arriero.wire.openai_errors import error_body, error_headers


def test_body() -> None:
    error = UnsupportedParameter("n is not supported", param="n", hint="send several")
    assert json.loads(error_body(error, "abc")) == {
        "error": {
            "message": "n is not supported (hint: send several) [request abc]",
            "type": "invalid_request_error",
            "param": "n",
            "code": "unsupported_parameter",
        }
    }


def test_body_without_param() -> None:
    assert json.loads(error_body(BackendFailed("broke"), "abc"))["error"]["param"] is None


@pytest.mark.parametrize("text", ["\ud800", "a\u2028b", '"\r\n', "x" * 100_000])
def test_any_message_is_one_bounded_line(text: str) -> None:
    body = error_body(UnknownModel(text, param=text[:9]), "abc")
    assert json.loads(body)["error"]["message"].endswith("[request abc]")
    assert len(body.decode().splitlines()) == 1
    assert len(body) < 3000


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (BadRequest("x"), {}),
        (Unauthorized("x"), {"WWW-Authenticate": "Bearer"}),
        (BackendFailed("x"), {"x-should-retry": "false"}),
        (InternalError("x"), {"x-should-retry": "false"}),
        (NoBackend("x", retry_after_s=5), {"Retry-After": "5", "x-should-retry": "true"}),
        (Draining("x", retry_after_s=0), {"Retry-After": "1", "x-should-retry": "true"}),
        (Draining("x", retry_after_s=60), {"Retry-After": "60", "x-should-retry": "true"}),
        (Draining("x", retry_after_s=61), {"Retry-After": "60", "x-should-retry": "true"}),
    ],
    ids=lambda value: (
        str(value.retry_after_s) + value.code if isinstance(value, GatewayError) else ""
    ),
)
def test_headers(error: GatewayError, headers: dict[str, str]) -> None:
    assert dict(error_headers(error)) == headers
