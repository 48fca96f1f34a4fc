"""A backend's own words: found in every shape, cleaned of what is private."""

import pytest

from arriero.wire.refusal import TEXT_CHARS_MAX, Refusal, clean, error_text, read_refusal


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (b'{"error":"text"}', Refusal("text")),
        (b'{"error":{"message":"text","type":"kind","code":null}}', Refusal("text", "kind")),
        (b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}',
         Refusal("Loading model", "unavailable_error")),
        (b'{"object":"error","message":"text","type":"NotFoundError","code":404}',
         Refusal("text", "NotFoundError")),
        (b'{"detail":"Not Found"}', Refusal("Not Found")),
        (b'{"error":"{\\"error\\":{\\"message\\":\\"in\\",\\"type\\":\\"t\\"}}"}',
         Refusal("in", "t")),
        (b'{"error":"told: {\\"error\\":{\\"message\\":\\"in\\"}}"}', Refusal("in")),
        (b'{"error":"odd {value}"}', Refusal("odd {value}")),
        (b'{"error":"got {\\"a\\":1}"}', Refusal('got {"a":1}')),
        (b"plain words", Refusal("plain words")),
        (b"<html>words</html>", Refusal("")),
        (b"[]", Refusal("")),
        (b'{"error":{"error":{"error":{"error":{"error":"deep"}}}}}', Refusal("")),
    ],
)  # fmt: skip
def test_words_are_found_in_every_shape(body: bytes, refusal: Refusal) -> None:
    assert read_refusal(body) == refusal


@pytest.mark.parametrize(
    "text",
    [
        'Post "http://10.0.0.7:11434/api/chat": connection refused',
        "dial tcp 10.0.0.7:11434: connect: connection refused",
        "dial tcp gpu-7.lan:11434: connect: connection refused",
        "dial tcp [fd00::7]:11434: connect: connection refused",
        "open /srv/gpu-7/models/blobs/x: no such file",
        r"open C:\Users\gpu-7\models: no such file",
        "blob sha256:0123456789abcdef0123 is lost",
        "read tcp localhost:11434->localhost:5: reset",
    ],
)
def test_addresses_and_paths_are_taken_out(text: str) -> None:
    cleaned = clean(text)
    for secret in ("10.0.0.7", "gpu-7", "fd00", "11434", "srv", "Users", "0123456789", "localhost"):
        assert secret not in cleaned
    assert "..." in cleaned


@pytest.mark.parametrize(
    "text",
    [
        'template: :3: unexpected "}" in operand',
        "Modelfile line 2: SYSTEM You are Bob",
        "jinja error at <|im_start|>",
        "bad {{ .Secret }}",
    ],
)
def test_templates_are_withheld(text: str) -> None:
    assert clean(text) == "the backend could not render the request with the model's template"


def test_words_stay_as_they_are() -> None:
    text = 'option "top_k" must be of type integer and/or 3:4 at 12:30'
    assert clean(text) == text


def test_a_text_is_one_line_of_limited_length() -> None:
    assert clean("a\r\n  b\tc") == "a b c"
    assert clean("x" * TEXT_CHARS_MAX) == "x" * TEXT_CHARS_MAX
    assert len(clean("x" * (TEXT_CHARS_MAX + 1))) == TEXT_CHARS_MAX


def test_an_error_always_has_words() -> None:
    assert error_text(b'"boom"') == "boom"
    assert error_text(b'{"message":"boom"}') == "boom"
    assert error_text(b"{}") == error_text(b'""') != ""
