"""`model_list`: entries to backends, aliases, timeouts and options."""

from collections.abc import Callable

import pytest

from arriero.config.load import Loaded
from arriero.config.settings import Model, Timeouts

Load = Callable[..., Loaded]
Mistakes = Callable[..., list[tuple[int, int, str]]]


def entry(params: str = "", beside: str = "", host: str = "a", name: str = "m") -> str:
    """Return one entry as a line of a `model_list`."""
    more = f", {params}" if params else ""
    where = f"model: ollama_chat/x, api_base: 'http://{host}:11434'"
    return f"  - {{model_name: {name}, litellm_params: {{{where}{more}}}, {beside}}}\n"


def listed(*entries: str) -> str:
    return "model_list:\n" + "".join(entries)


def model_of(loaded: Loaded) -> Model:
    (model,) = loaded.config.models
    return model


def messages(loaded: Loaded) -> list[str]:
    return [note.message for note in loaded.notes]


def test_entries_of_one_server_share_a_backend(keyed: Load) -> None:
    config = keyed(
        listed(entry(), entry(host="b"), entry(name="n"), entry(name="n", host="A"))
    ).config
    assert [(backend.name, backend.url) for backend in config.backends] == [
        ("a", "http://a:11434"),
        ("b", "http://b:11434"),
    ]
    assert [[route.backend for route in model.routes] for model in config.models] == [
        ["a", "b"],
        ["a"],
    ]


def test_servers_with_different_keys_are_different_backends(keyed: Load) -> None:
    config = keyed(listed(entry("api_key: one"), entry("api_key: two", name="n"))).config
    assert [backend.name for backend in config.backends] == ["a", "a-2"]


SETTINGS = "num_retries: 1, max_input_tokens: 7, mode: embedding, num_ctx: 5, keep_alive: 5m"


@pytest.mark.parametrize(
    "written",
    [entry(SETTINGS), entry("", SETTINGS), entry("", f"model_info: {{{SETTINGS}}}")],
    ids=["in litellm_params", "beside them", "in model_info"],
)  # fmt: skip
def test_settings_count_wherever_they_stand(written: str, keyed: Load) -> None:
    model = model_of(keyed(listed(written)))
    assert model.retries == 1
    assert model.max_input_tokens == 7
    assert model.mode == "embedding"
    assert model.context == 5
    assert model.keep_alive == "5m"


def test_capabilities_come_from_the_descriptions(keyed: Load) -> None:
    info = "supports_function_calling: true, supports_vision: false, supports_reasoning: true"
    model = model_of(keyed(listed(entry("", f"model_info: {{{info}}}"))))
    assert (model.tools, model.vision, model.thinking) == (True, False, True)


def test_litellm_params_come_first(keyed: Load) -> None:
    loaded = keyed(listed(entry("num_retries: 1", "num_retries: 2")))
    assert model_of(loaded).retries == 1
    assert messages(loaded) == [
        "`num_retries` has no effect: the one in `litellm_params` comes first"
    ]


@pytest.mark.parametrize("key", ["timeout", "request_timeout"])
def test_a_timeout_is_a_limit_on_silence(key: str, keyed: Load) -> None:
    timeouts = model_of(keyed(listed(entry(f"{key}: 300")))).routes[0].timeouts
    assert timeouts == Timeouts(first_token_s=300, inter_token_s=300, response_s=300)


def test_a_short_timeout_is_noted_and_the_load_granted_on_top(keyed: Load) -> None:
    loaded = keyed(listed(entry("request_timeout: 30"), entry("request_timeout: 30", host="b")))
    assert model_of(loaded).routes[0].timeouts == Timeouts(
        first_token_s=30, inter_token_s=30, response_s=30, load_s=600
    )
    (note,) = loaded.notes
    assert note.message == "30 s may be less than a model takes to load (also line 3)"
    assert note.hint == "while it is not loaded, 600 s are granted on top"
    assert note.line == 2


@pytest.mark.parametrize(
    ("params", "router", "expected"),
    [
        ("timeout: 200, request_timeout: 300", "", (200, 200)),
        ("timeout: 200, stream_timeout: 150", "", (150, 200)),
        ("", "timeout: 200", (200, 200)),
        ("", "timeout: 200, stream_timeout: 150", (150, 200)),
        ("stream_timeout: 150", "", (150, 1800)),
        ("", "", (300, 1800)),
    ],
)
def test_which_timeout_counts(
    params: str, router: str, expected: tuple[float, float], keyed: Load
) -> None:
    text = listed(entry(params)) + f"router_settings: {{{router}}}\n"
    timeouts = model_of(keyed(text)).routes[0].timeouts
    assert (timeouts.first_token_s, timeouts.response_s) == expected


def test_litellms_request_timeout_is_the_last_resort(keyed: Load) -> None:
    text = listed(entry()) + "litellm_settings: {request_timeout: 400}\n"
    assert model_of(keyed(text)).routes[0].timeouts.response_s == 400
    loaded = keyed(text + "router_settings: {timeout: 500}")
    assert model_of(loaded).routes[0].timeouts.response_s == 500
    assert messages(loaded) == [
        "`request_timeout` has no effect: `router_settings.timeout` comes first"
    ]


def test_a_long_timeout_lengthens_the_whole(keyed: Load) -> None:
    assert model_of(keyed(listed(entry("timeout: 6000")))).routes[0].timeouts.total_s == 6000


def test_a_router_timeout_without_effect_is_noted(keyed: Load) -> None:
    loaded = keyed(listed(entry("timeout: 300")) + "router_settings:\n  timeout: 200\n")
    (note,) = loaded.notes
    assert (note.line, note.column) == (4, 3)
    assert "no effect: every entry of `model_list` sets its own" in note.message


def test_options_are_defaults_of_requests(keyed: Load) -> None:
    model = model_of(keyed(listed(entry("temperature: 0.2, stop: [a, b], max_tokens: 99"))))
    assert model.options == {"temperature": 0.2, "stop": ("a", "b"), "num_predict": 99}


def test_other_servers_know_max_tokens(keyed: Load) -> None:
    text = "model_list:\n  - {model_name: m, litellm_params: {model: openai/x,"
    text += " api_base: 'http://a:1/v1', max_tokens: 99}}\n"
    assert model_of(keyed(text)).options == {"max_tokens": 99}


def test_weights_are_kept(keyed: Load) -> None:
    model = model_of(keyed(listed(entry("weight: 3"), entry(host="b"))))
    assert [route.weight for route in model.routes] == [3.0, 1.0]


def test_a_repeated_entry_is_noted_and_counts_once(keyed: Load) -> None:
    loaded = keyed(listed(entry(), entry()))
    assert len(model_of(loaded).routes) == 1
    assert messages(loaded) == ["`m` has the same model on this server already"]


def test_keys_without_effect_are_noted(keyed: Load) -> None:
    loaded = keyed(
        listed(
            entry(
                "rpm: 5, order: 1, input_cost_per_token: 0.1, drop_params: true",
                "model_info: {id: x, max_tokens: 4096, owner: me}",
            )
        )
    )
    keys = sorted(message.split("`")[1] for message in messages(loaded))
    assert keys == [
        "drop_params",
        "id",
        "input_cost_per_token",
        "max_tokens",
        "order",
        "owner",
        "rpm",
    ]
    assert not model_of(loaded).options


@pytest.mark.parametrize("setting", ["num_ctx: {}", "temperature: 0.{}", "keep_alive: {}m"])
def test_entries_of_one_alias_must_agree(setting: str, mistakes: Mistakes) -> None:
    text = listed(entry(setting.format(1)), entry(setting.format(2), host="b"))
    ((line, column, message),) = mistakes(text)
    key, _, value = setting.format(2).partition(": ")
    assert (line, column) == (3, text.splitlines()[2].index(value + "}") + 1)
    assert message == f"`{key}` differs from line 2, and belongs to the alias as a whole"


def test_what_only_one_entry_says_holds_for_the_alias(keyed: Load) -> None:
    assert model_of(keyed(listed(entry(), entry("num_ctx: 8192", host="b")))).context == 8192


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("[]", (1, 1, "no models: there is nothing to serve")),
        ("[x]", (1, 14, "an entry must be a mapping with `model_name` and `litellm_params`")),
        ("[{model_name: m}]", (1, 14, "`litellm_params` is missing")),
        ("[{model_name: m, litellm_params: {}}]", (1, 14, "`model` is missing")),
        ("[{litellm_params: {model: ollama/m}}]", (1, 14, "`model_name` is missing")),
        ("[{model_name: m, litellm_params: {model: ollama/m, temprature: 1}}]",
         (1, 64, "unknown key `temprature`")),
        ("[{model_name: m, litellm_params: {model: ollama/m}, num_retrys: 1}]",
         (1, 65, "unknown key `num_retrys`")),
        ("[{model_name: m, litellm_params: {model: ollama/m, api_base: x}}]",
         (1, 74, "`api_base` must be an address with its scheme")),
        ("[{model_name: m, litellm_params: {model: ollama/m, mode: image_generation}}]",
         (1, 70, "`mode` must be one of chat, completion, embedding, not `image_generation`")),
        ("[{model_name: m, litellm_params: {model: ollama/m, weight: -1}}]",
         (1, 72, "`weight` must be a number from 0 to 1,000,000, not `-1`")),
        ("[{model_name: m, litellm_params: {model: ollama/m, api_key: os.environ/NOPE}}]",
         (1, 73, "the environment variable `NOPE` is not set")),
        ("{m: x}", (1, 13, "`model_list` must be a list")),
    ],
)  # fmt: skip
def test_entry_mistakes(written: str, found: tuple[int, int, str], mistakes: Mistakes) -> None:
    assert mistakes("model_list: " + written) == [found]


def test_a_section_without_a_list_is_a_mistake(mistakes: Mistakes) -> None:
    assert mistakes("router_settings: {}") == [(1, 1, "no models: there is nothing to serve")]


def test_parallel_requests_are_the_routes_slots(keyed: Load) -> None:
    model = model_of(keyed(listed(entry("max_parallel_requests: 4"), entry(host="b"))))
    assert [route.slots for route in model.routes] == [4, None]
