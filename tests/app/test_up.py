import socket
from collections.abc import Iterator

import pytest

from arriero.app import up as up_module
from arriero.app.children import Child
from arriero.app.ollama_host import FoundOllama
from arriero.app.up import (
    CannotStart,
    Wanted,
    choose_port,
    embedded_fleet,
    ollama_fleet,
    run_up,
)
from arriero.config.settings import Backend, Route
from arriero.embedded.package import ExtraMissing
from arriero.wire.inventory import Listed

KEY = "sk-a-key-for-this-test"


def wanted(
    port: int | None = 0, usual: int = 4000, host: str = "127.0.0.1", ollama: str = "127.0.0.1:1"
) -> Wanted:
    return Wanted(host=host, port=port, port_usual=usual, master_key=KEY, ollama_host=ollama)


def silent(_line: str) -> None:
    """Nobody listens."""


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


# The port


def test_a_port_asked_for_is_the_port(taken: int) -> None:
    assert choose_port(wanted(port=0), silent) == 0
    with pytest.raises(CannotStart, match=f"port {taken} of 127.0.0.1 is taken") as caught:
        choose_port(wanted(port=taken), silent)
    assert "--port" in caught.value.hint


def test_without_one_the_next_free_port_is_taken_and_told(taken: int) -> None:
    told: list[str] = []
    port = choose_port(wanted(port=None, usual=taken), told.append)
    assert taken < port < taken + up_module.PORTS_TRIED
    assert told == [f"port {taken} is taken: using {port}"]


def test_the_usual_port_is_no_news(taken: int) -> None:
    told: list[str] = []
    free = choose_port(wanted(port=None, usual=taken), silent)
    assert choose_port(wanted(port=None, usual=free), told.append) == free
    assert told == []


def test_all_ports_taken_is_an_end(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up_module, "PORTS_TRIED", 1)
    with pytest.raises(CannotStart, match=f"the ports {taken} to {taken} are taken"):
        choose_port(wanted(port=None, usual=taken), silent)


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(CannotStart, match=r"cannot listen on 192\.0\.2\.1"):
        choose_port(wanted(port=None, host="192.0.2.1"), silent)


# The fleet


def test_every_model_of_an_ollama_gets_an_alias() -> None:
    found = FoundOllama("http://h:1", "0.33.0", {"phi3:latest": Listed(), "llama3:8b": Listed()})
    backends, models = ollama_fleet(found)
    assert backends == (Backend(name="ollama", url="http://h:1"),)
    assert {model.name: model.routes for model in models} == {
        "llama3:8b": (Route(backend="ollama", model="llama3:8b"),),
        "phi3": (Route(backend="ollama", model="phi3:latest"),),
    }


def test_an_ollama_without_models_has_nothing_to_serve() -> None:
    with pytest.raises(CannotStart, match="has no models") as caught:
        ollama_fleet(FoundOllama("http://h:1", "0.33.0", {}))
    assert caught.value.hint.startswith("ollama pull")


async def test_the_embedded_servers_share_one_alias() -> None:
    children = [Child("a", silent), Child("b", silent)]
    children[0].url, children[1].url = "http://h:1", "http://h:2"
    backends, (model,) = embedded_fleet(children)
    assert [(b.name, b.url) for b in backends] == [("a", "http://h:1"), ("b", "http://h:2")]
    assert model.name == "smollm2"
    assert model.max_output_tokens == 512
    assert [route.backend for route in model.routes] == ["a", "b"]


# The whole


def test_a_missing_extra_is_told_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ExtraMissing("the embedded model needs numpy", "pip install it")

    monkeypatch.setattr(up_module, "require_all", missing)
    with pytest.raises(ExtraMissing, match="needs numpy"):
        run_up(wanted(), silent, lambda _standing: None)


def test_a_server_that_cannot_start_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(name: str, tell: up_module.Tell) -> Child:
        return Child(name, tell, ("false",))

    monkeypatch.setattr(up_module, "require_all", lambda: None)
    monkeypatch.setattr(up_module, "Child", failing)
    with pytest.raises(CannotStart, match="ended before it was ready"):
        run_up(wanted(), silent, lambda _standing: None)


def test_a_bad_ollama_host_is_told() -> None:
    with pytest.raises(CannotStart, match="OLLAMA_HOST is no address"):
        run_up(wanted(ollama="box:port"), silent, lambda _standing: None)
