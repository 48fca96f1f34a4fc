"""Backend addresses: what is kept of them, and the names made from them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.config import addresses, forms
from arriero.config.reader import Reader, fields_of
from arriero.config.settings import Backend, BackendKind
from arriero.config.tree import Node

HERE = Node(3, 7, None)


@pytest.mark.parametrize(
    ("url", "kind", "base"),
    [
        ("http://a:11434", "ollama", "http://a:11434"),
        ("http://a:8080/v1", "openai", "http://a:8080"),
        ("http://a:8080", "openai", "http://a:8080"),
        ("http://a/llm/v1", "openai", "http://a/llm"),
        ("http://a/v1x", "openai", "http://a/v1x"),
    ],
)
def test_the_base_is_kept_without_the_version(url: str, kind: BackendKind, base: str) -> None:
    reader = Reader({})
    assert addresses.base(reader, HERE, url, kind) == base
    assert not reader.problems


@pytest.mark.parametrize("path", ["/v1", "/api", "/ollama"])
def test_ollama_has_no_path(path: str) -> None:
    reader = Reader({})
    assert addresses.base(reader, HERE, f"http://a:11434{path}", "ollama") is None
    (problem,) = reader.problems
    assert (problem.line, problem.column) == (3, 7)
    assert path in problem.message
    assert problem.hint is not None
    assert problem.hint.startswith("write http://a:11434;")


@pytest.mark.parametrize(("scheme", "port"), [("http", 80), ("https", 443)])
def test_an_ollama_address_without_port_is_noted(scheme: str, port: int) -> None:
    reader = Reader({})
    assert addresses.base(reader, HERE, f"{scheme}://a", "ollama") == f"{scheme}://a"
    (note,) = reader.problems
    assert note.severity == "note"
    assert f"port {port} " in note.message


@pytest.mark.parametrize(
    ("urls", "names"),
    [
        (["http://hx-llm01-server.dev-test.hana-x.ai:11434"], ["hx-llm01-server"]),
        (["http://a.x:11434", "http://a.x:8080"], ["a", "a-8080"]),
        (["http://a.x:11434", "http://a.y:11434"], ["a.x", "a.y"]),
        (["http://10.0.0.5:11434"], ["10.0.0.5"]),
        (["http://[::1]:11434"], ["ipv6--1"]),
        (["http://a:8080", "http://a:8080/other"], ["a-8080", "a-8080-2"]),
    ],
)
def test_names_come_from_hosts(urls: list[str], names: list[str]) -> None:
    assert addresses.derive_names(urls) == names


def test_names_do_not_depend_on_order() -> None:
    urls = ["http://a.x:11434", "http://b:1", "http://a.y:11434"]
    forwards = dict(zip(urls, addresses.derive_names(urls), strict=True))
    backwards = dict(zip(urls[::-1], addresses.derive_names(urls[::-1]), strict=True))
    assert forwards == backwards


def test_names_that_are_taken_are_left_alone() -> None:
    assert addresses.derive_names(["http://a.x:11434"], ["a"]) == ["a.x"]
    assert addresses.derive_names(["http://a:11434"], ["a"]) == ["a-2"]


LABELS = st.from_regex(r"[a-z0-9]([a-z0-9_.-]{0,80}[a-z0-9])?", fullmatch=True)


@given(st.lists(st.tuples(LABELS, st.integers(1, 65_535)), max_size=6))
def test_names_are_unique_and_allowed(hosts: list[tuple[str, int]]) -> None:
    urls = [forms.url(f"http://{host}:{port}") for host, port in hosts]
    names = addresses.derive_names(urls)
    assert len(set(names)) == len(names)
    reader = Reader({})
    for name in names:
        reader.value(Node(1, 1, name, name), fields_of(Backend)["name"].type, "name")
    assert not reader.problems
