"""The gateway's own vocabulary: backends, sections, and what is special about them."""

from collections.abc import Callable

import pytest

from arriero.config.load import Loaded
from arriero.config.settings import Access, Log, Routing, Secret, Server, Timeouts, Tls

Load = Callable[..., Loaded]
Mistakes = Callable[..., list[tuple[int, int, str]]]

NAME = "a name of up to 64 letters, digits, dots, dashes and underscores"
STRATEGIES = "adaptive, least-busy, round-robin, simple-shuffle"
FLEET = "backends: [http://a:11434]\nmodels: [{name: m}]\n"
MODELS = "\nmodels: [{name: m}]\n"


def test_the_shortest_file_is_a_gateway(keyed: Load) -> None:
    loaded = keyed(FLEET)
    config = loaded.config
    (backend,) = config.backends
    (model,) = config.models
    (route,) = model.routes
    assert loaded.vocabulary == "arriero"
    assert not loaded.notes
    assert (backend.name, backend.url, backend.kind) == ("a", "http://a:11434", "ollama")
    assert (model.name, route.backend, route.model) == ("m", "a", "m")
    assert (config.server, config.routing, config.log) == (Server(), Routing(), Log())
    assert route.timeouts == Timeouts()


@pytest.mark.parametrize(
    "written",
    [
        "backends: [http://a:11434, {name: b, url: 'http://x:1/v1', kind: openai, api_key: k}]",
        "backends:\n  a: http://a:11434\n  b: {url: 'http://x:1', kind: openai, api_key: k}",
        "backends: [http://a:11434/, {name: b, url: 'http://x:1', kind: openai, api_key: k}]",
    ],
)
def test_backends_are_a_list_or_a_mapping(written: str, keyed: Load) -> None:
    first, second = keyed(written + MODELS, K="k").config.backends
    assert (first.name, first.url) == ("a", "http://a:11434")
    assert (second.name, second.url, second.kind) == ("b", "http://x:1", "openai")
    assert second.api_key == Secret("k")


def test_an_empty_key_is_no_key(keyed: Load) -> None:
    text = "backends: {a: {url: 'http://a:1', api_key: ''}}" + MODELS
    assert keyed(text).config.backends[0].api_key is None


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("backends: {a: 'gpu1:11434'}", [(1, 15, "`url` must be an address with its scheme")]),
        ("backends: {a: {kind: openai}}", [(1, 15, "`url` is missing")]),
        ("backends: {a: {url: 'http://a:1/v1'}}",
         [(1, 21, "an Ollama address has no path, and this one has `/v1`")]),
        ("backends: {'a b': 'http://a:1'}", [(1, 12, f"`name` must be {NAME}, not `a b`")]),
        ("backends: [{name: a, url: 'http://a:1'}, {name: a, url: 'http://b:1'}]",
         [(1, 42, "backend `a` is given twice; the first is in line 1")]),
        ("backends: ['x', 'y']", [(1, 12, "`url` must be an address with its scheme"),
                                  (1, 17, "`url` must be an address with its scheme")]),
        ("backends: {a: {url: 'http://a:1', threads: 2}}", [(1, 35, "unknown key `threads`")]),
        ("backends: {a: {url: 'http://a:1', connections_max: 0}}",
         [(1, 52, "`connections_max` must be a whole number from 1 to 1,000,000, not `0`")]),
        ("backends: []", [(1, 1, "no backends: there is nothing to serve")]),
        ("backends: 5", [(1, 11, "`backends` must be a list")]),
    ],
)  # fmt: skip
def test_backend_mistakes(
    written: str, found: list[tuple[int, int, str]], mistakes: Mistakes
) -> None:
    assert mistakes(written + MODELS) == found


@pytest.mark.parametrize("empty", ["", "models:\n", "models: []\n"])
def test_a_gateway_without_models_is_a_mistake(empty: str, mistakes: Mistakes) -> None:
    ((_, _, message),) = mistakes("backends: [http://a:11434]\n" + empty)
    assert message == "no models: there is nothing to serve"


def test_a_backend_that_nobody_uses_is_noted(keyed: Load) -> None:
    text = "backends: {a: 'http://a:1', b: 'http://b:1'}\nmodels: [{name: m, backends: [a]}]"
    (note,) = keyed(text).notes
    assert (note.line, note.column, note.message) == (1, 32, "no model runs on backend `b`")


def test_sections_are_read_from_the_settings(keyed: Load) -> None:
    config = keyed(
        FLEET
        + "server: {host: 0.0.0.0, port: 0, body_bytes_max: 2MiB, drain_timeout_s: 1m,\n"
        + "  tls: {certificate: c.pem, key: k.pem}}\n"
        + "routing: {strategy: round-robin, retries: 0}\n"
        + "access: {metrics_public: true}\n"
        + "log: {access: 'off', level: debug}\n"
    ).config
    assert config.server == Server(
        host="0.0.0.0",
        port=0,
        body_bytes_max=2_097_152,
        drain_timeout_s=60.0,
        tls=Tls(certificate="c.pem", key="k.pem"),
    )
    assert config.routing == Routing(strategy="round-robin", retries=0)
    assert config.access == Access(master_key=config.access.master_key, metrics_public=True)
    assert config.log == Log(access="off", level="debug")


def test_empty_sections_are_defaults(keyed: Load) -> None:
    config = keyed(FLEET + "timeouts:\naccess:\n").config
    assert config.models[0].routes[0].timeouts == Timeouts()


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("digest: x", (3, 1, "unknown key `digest`")),
        ("serverr: {}", (3, 1, "unknown key `serverr`")),
        ("server: 5", (3, 9, "`server` must be a mapping of keys to values, not `5`")),
        ("server: {tls: {certificate: c}}", (3, 15, "`key` is missing")),
        ("timeouts: [1]", (3, 11, "`timeouts` must be a mapping of keys to values")),
        ("timeouts: {load: 5}", (3, 12, "unknown key `load`")),
        ("routing: {strategy: latency-based-routing}",
         (3, 21, f"`strategy` must be one of {STRATEGIES}, not `latency-based-routing`")),
        ("log: {access: no}", (3, 15, "`access` must be text, not `no`")),
    ],
)  # fmt: skip
def test_section_mistakes(written: str, found: tuple[int, int, str], mistakes: Mistakes) -> None:
    assert mistakes(FLEET + written) == [found]
