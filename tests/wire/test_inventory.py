"""What model servers say about themselves, and what they say wrongly."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.wire import inventory
from arriero.wire.inventory import Listed, Loaded


def test_installed_models_with_digest_and_capabilities() -> None:
    body = b"""{"models":[
        {"name":"llama3:8b","model":"llama3:8b","size":5,"digest":"abc",
         "details":{"family":"llama"},"capabilities":["completion","tools"]},
        {"name":"phi3","digest":"def"}]}"""
    assert inventory.decode_tags(body) == {
        "llama3:8b": Listed("abc", frozenset({"completion", "tools"})),
        "phi3:latest": Listed("def", frozenset()),
    }


def test_stubs_of_cloud_models_are_not_installed() -> None:
    body = b"""{"models":[{"name":"gpt-oss:120b-cloud","remote_model":"gpt-oss:120b",
        "remote_host":"https://ollama.com:443"},{"name":"a:b","remote_host":""}]}"""
    assert list(inventory.decode_tags(body)) == ["a:b"]


def test_resident_models_with_context_and_memory() -> None:
    body = b"""{"models":[{"name":"llama3:8b","size":100,"size_vram":60,"context_length":8192,
        "expires_at":"2026-08-21T00:00:00Z"},{"model":"b"}]}"""
    assert inventory.decode_ps(body) == {
        "llama3:8b": Loaded(8192, 100, 60),
        "b:latest": Loaded(),
    }


def test_version() -> None:
    assert inventory.decode_version(b'{"version":"0.33.0"}') == "0.33.0"


def test_openai_models() -> None:
    body = b'{"object":"list","data":[{"id":"a","object":"model"},{"id":"b:c"}]}'
    assert inventory.decode_openai_models(body) == ["a", "b:c"]


def test_null_is_an_empty_list() -> None:
    assert inventory.decode_tags(b'{"models":null}') == {}
    assert inventory.decode_ps(b'{"models":null}') == {}
    assert inventory.decode_openai_models(b'{"object":"list","data":null}') == []


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("llama3", "llama3:latest"),
        ("llama3:8b", "llama3:8b"),
        ("hf.co/user/model", "hf.co/user/model:latest"),
        ("host:5000/user/model", "host:5000/user/model:latest"),
        ("host:5000/user/model:q4", "host:5000/user/model:q4"),
    ],
)
def test_full_names(name: str, full: str) -> None:
    assert inventory.full_name(name) == full
    assert inventory.full_name(full) == full


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"404 page not found", b"[" * 100_000, b'{"models":[1]}']
)
def test_anything_else_is_a_value_error(body: bytes) -> None:
    for decode in (
        inventory.decode_tags,
        inventory.decode_ps,
        inventory.decode_version,
        inventory.decode_openai_models,
    ):
        with pytest.raises(ValueError, match=r"."):
            decode(body)


@given(st.binary())
def test_arbitrary_bytes_give_an_inventory_or_a_value_error(body: bytes) -> None:
    try:
        inventory.decode_tags(b'{"models":[{"name":"' + body + b'"}]}')
    except ValueError:
        return


@pytest.mark.parametrize(
    ("expires_at", "forever"),
    [
        ("2026-11-23T17:00:00.123456789Z", False),
        ("2318-03-04T10:20:30.5Z", True),  # now and Go's longest duration
        ("", False),
        (None, False),
    ],
)
def test_what_never_expires_is_told(expires_at: str | None, *, forever: bool) -> None:
    body = msgspec.json.encode({"models": [{"name": "llama3", "expires_at": expires_at}]})
    assert inventory.decode_ps(body)["llama3:latest"].forever is forever
