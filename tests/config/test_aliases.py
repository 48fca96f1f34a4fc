"""`models:` of the gateway's own vocabulary."""

from collections.abc import Callable

import pytest

from arriero.config.load import Loaded
from arriero.config.settings import Model, Route, Timeouts

Load = Callable[..., Loaded]
Mistakes = Callable[..., list[tuple[int, int, str]]]

NAME = "a name of up to 256 characters without blanks at its ends"
BACKENDS = "backends: {a: 'http://a:1', b: 'http://b:1'}\n"


def models(keyed: Load, text: str) -> tuple[Model, ...]:
    return keyed(BACKENDS + text).config.models


def test_a_model_runs_on_all_backends_unless_it_says_where(keyed: Load) -> None:
    everywhere, there = models(keyed, "models: [{name: m, model: x}, {name: n, backends: [b]}]")
    assert [(route.backend, route.model) for route in everywhere.routes] == [("a", "x"), ("b", "x")]
    assert [(route.backend, route.model) for route in there.routes] == [("b", "n")]


def test_routes_may_differ_in_model_weight_and_timeouts(keyed: Load) -> None:
    (model,) = models(
        keyed,
        "timeouts: {connect_s: 1}\n"
        "models:\n"
        "  - name: m\n"
        "    model: x\n"
        "    timeouts: {load_s: 2}\n"
        "    backends:\n"
        "      - a\n"
        "      - {backend: b, model: y, weight: 2.5, timeouts: {total_s: 3}}\n",
    )
    assert model.routes == (
        Route(backend="a", model="x", timeouts=Timeouts(connect_s=1, load_s=2)),
        Route(
            backend="b",
            model="y",
            weight=2.5,
            timeouts=Timeouts(connect_s=1, load_s=2, total_s=3),
        ),
    )


def test_one_backend_may_serve_two_models_of_an_alias(keyed: Load) -> None:
    (model,) = models(keyed, "models: [{name: m, backends: [a, {backend: a, model: other}]}]")
    assert [(route.backend, route.model) for route in model.routes] == [("a", "m"), ("a", "other")]


def test_every_setting_of_a_model_is_read(keyed: Load) -> None:
    (model,) = models(
        keyed,
        "models:\n  - {name: m, backends: [a], mode: embedding, strategy: round-robin, retries: 0,"
        " context: 8192, keep_alive: '-1', max_input_tokens: 7, max_output_tokens: 8,"
        " options: {temperature: 0.5, stop: [a]}, tools: true, vision: false, thinking: true,"
        " unsupported_tools: reject, client_options: allow}\n",
    )
    assert model == Model(
        name="m",
        routes=(Route(backend="a", model="m"),),
        mode="embedding",
        strategy="round-robin",
        retries=0,
        context=8192,
        keep_alive=-1,
        max_input_tokens=7,
        max_output_tokens=8,
        options={"temperature": 0.5, "stop": ("a",)},
        tools=True,
        vision=False,
        thinking=True,
        unsupported_tools="reject",
        client_options="allow",
    )


def test_anchors_spare_repetition(keyed: Load) -> None:
    first, second = models(
        keyed, "models:\n  - &m {name: m, context: 4096}\n  - {<<: *m, name: n, model: m}\n"
    )
    assert (first.context, second.context) == (4096, 4096)
    assert (second.name, second.routes[0].model) == ("n", "m")


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("[m]", (2, 10, "a model must be a mapping")),
        ("[{model: m}]", (2, 10, "`name` is missing")),
        ("[{name: ''}]", (2, 17, f"`name` must be {NAME}, not empty text")),
        ("[{name: ' m'}]", (2, 17, f"`name` must be {NAME}, not ` m`")),
        ('[{name: "m\\u0007"}]', (2, 17, f"`name` must be {NAME}, not `m\x07`")),
        ("[{name: m, routes: []}]", (2, 20, "unknown key `routes`")),
        ("[{name: m}, {name: m}]",
         (2, 21, "model `m` is given twice; the first is in line 2")),
        ("[{name: m, backends: [c]}]", (2, 31, "there is no backend `c`")),
        ("[{name: m, backends: [{backend: c}]}]", (2, 41, "there is no backend `c`")),
        ("[{name: m, backends: [{weight: 1}]}]", (2, 31, "`backend` is missing")),
        ("[{name: m, backends: [a, a]}]", (2, 34, "backend `a` is listed twice")),
        ("[{name: m, backends: []}]",
         (2, 20, "no backends: the model could never be served")),
        ("[{name: m, backends: a}]", (2, 30, "`backends` must be a list")),
        ("[{name: m, backends: [{backend: a, weight: -1}]}]",
         (2, 52, "`weight` must be a number from 0 to 1,000,000, not `-1`")),
        ("[{name: m, options: {num_ctx: 5}}]", (2, 30, "`num_ctx` is not an option here")),
        ("[{name: m, options: {keep_alive: 5}}]", (2, 30, "`keep_alive` is not an option here")),
        ("[{name: m, mode: image}]",
         (2, 26, "`mode` must be one of chat, completion, embedding, not `image`")),
        ("{m: {}}", (2, 9, "`models` must be a list")),
    ],
)  # fmt: skip
def test_model_mistakes(written: str, found: tuple[int, int, str], mistakes: Mistakes) -> None:
    assert mistakes(BACKENDS + "models: " + written) == [found]


def test_a_misspelt_backend_is_suggested(hints: Callable[..., list[str | None]]) -> None:
    text = "backends: {gpu-one: 'http://a:1'}\nmodels: [{name: m, backends: [gpu-on]}]"
    assert hints(text) == ["did you mean `gpu-one`?"]


def test_a_broken_backend_is_not_told_twice(mistakes: Mistakes) -> None:
    text = "backends: {a: nowhere}\nmodels: [{name: m, backends: [a]}]"
    assert len(mistakes(text)) == 1
