"""LiteLLM's vocabulary: the sections beside the model list, and its fleet as a whole."""

from collections.abc import Callable

import pytest

from arriero.config.load import Loaded
from arriero.config.settings import Routing, Server

Load = Callable[..., Loaded]
Mistakes = Callable[..., list[tuple[int, int, str]]]

DURATION = "a number of seconds or a duration such as 30s, 5m, 1h30m"
NAME = "a name of up to 256 characters without blanks at its ends"
ENTRY = "{model_name: m, litellm_params: {model: ollama/m, api_base: 'http://a:11434'}}"
LIST = f"model_list: [{ENTRY}]\n"


def notes(loaded: Loaded) -> list[tuple[int, int, str]]:
    return [(note.line, note.column, note.message) for note in loaded.notes]


def test_a_list_is_enough(keyed: Load) -> None:
    loaded = keyed(LIST)
    assert loaded.vocabulary == "litellm"
    assert not loaded.notes
    assert (loaded.config.routing, loaded.config.server) == (
        Routing(strategy="least-busy"),
        Server(),
    )


def test_router_settings_become_routing(keyed: Load) -> None:
    loaded = keyed(
        LIST
        + "router_settings:\n  routing_strategy: simple-shuffle\n  num_retries: 5\n"
        + "  allowed_fails: 3\n  cooldown_time: 300\n"
    )
    assert loaded.config.routing == Routing(
        strategy="simple-shuffle", retries=5, failures_max=4, ejection_s=300, ejection_max_s=300
    )
    assert notes(loaded) == [
        (5, 3, "a host is left out after 4 HTTP errors in a row, not in a minute")
    ]


@pytest.mark.parametrize(
    ("router", "settings", "retries"),
    [("num_retries: 1", "num_retries: 5", 1), ("", "num_retries: 5", 5), ("", "", 2),
     ("num_retries: 0", "", 0)],
)  # fmt: skip
def test_the_nearest_num_retries_counts(
    router: str, settings: str, retries: int, keyed: Load
) -> None:
    text = f"{LIST}router_settings: {{{router}}}\nlitellm_settings: {{{settings}}}\n"
    assert keyed(text).config.routing.retries == retries


@pytest.mark.parametrize("strategy", ["adaptive", "least-busy", "round-robin", "simple-shuffle"])
def test_our_strategies_are_taken(strategy: str, keyed: Load) -> None:
    text = LIST + f"router_settings: {{routing_strategy: {strategy}}}"
    assert keyed(text).config.routing.strategy == strategy


@pytest.mark.parametrize(
    "strategy", ["latency-based-routing", "usage-based-routing-v2", "cost-based-routing"]
)
def test_other_strategies_are_mistakes_that_list_ours(strategy: str, mistakes: Mistakes) -> None:
    ((_, column, message),) = mistakes(LIST + f"router_settings: {{routing_strategy: {strategy}}}")
    assert column == 37
    assert "one of adaptive, least-busy, round-robin, simple-shuffle" in message


@pytest.mark.parametrize(
    ("policy", "told"),
    [('"simple"', "LiteLLM has no policy of that name"), ("{TimeoutErrorRetries: 3}", "together")],
)
def test_a_retry_policy_has_no_effect(policy: str, told: str, keyed: Load) -> None:
    loaded = keyed(LIST + f"router_settings:\n  retry_policy: {policy}\n")
    ((line, column, message),) = notes(loaded)
    assert (line, column) == (3, 17)
    assert told in message
    assert loaded.notes[0].hint == "the default holds: up to 2 retries, each on another host"
    assert loaded.config.routing.retries == 2


def test_an_unknown_retry_policy_is_a_mistake(mistakes: Mistakes) -> None:
    text = LIST + "router_settings: {retry_policy: often}"
    assert mistakes(text) == [(2, 33, "`retry_policy` must be a mapping, or `simple`")]


def test_general_and_litellm_settings(keyed: Load) -> None:
    loaded = keyed(
        LIST
        + "general_settings: {master_key: os.environ/MK, max_request_size_mb: 2}\n"
        + "litellm_settings: {set_verbose: true, require_auth_for_metrics_endpoint: false}\n",
        MK="from-the-environment",
    )
    config = loaded.config
    assert config.access.master_key is not None
    assert config.access.master_key.reveal() == "from-the-environment"
    assert config.access.metrics_public
    assert config.server.body_bytes_max == 2_097_152
    assert config.log.level == "debug"


def test_environment_variables_of_the_file_come_first(keyed: Load) -> None:
    text = (
        "model_list: [{model_name: m, litellm_params: {model: os.environ/M, "
        "api_base: os.environ/BASE}}]\n"
        "environment_variables: {M: ollama/x, BASE: os.environ/HOST_URL, PORT: 5}\n"
    )
    config = keyed(text, M="ollama/other", HOST_URL="http://h:11434").config
    assert config.backends[0].url == "http://h:11434"
    assert config.models[0].routes[0].model == "x"


def test_what_has_no_effect_is_noted_with_its_place(keyed: Load) -> None:
    loaded = keyed(
        LIST
        + "router_settings: {redis_host: os.environ/NOT_SET, fallbacks: [{m: [n]}]}\n"
        + "general_settings:\n  telemetry: false\n  database_url: os.environ/NOT_SET\n"
        + "litellm_settings:\n  callbacks: [prometheus]\n"
        + "guardrails: []\n"
    )
    found = notes(loaded)
    assert [(line, column) for line, column, _ in found] == [
        (2, 19), (2, 51), (4, 3), (5, 3), (7, 3), (8, 1),
    ]  # fmt: skip
    assert found[2][2] == "`telemetry` has no effect: nothing is ever sent home"
    assert all("has no effect" in message for _, _, message in found)


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("router_setings: {}", (2, 1, "unknown key `router_setings`")),
        ("server_settings: {ollama: {hosts: []}}", (2, 1, "unknown key `server_settings`")),
        ("include: [other.yaml]", (2, 1, "`include` is not supported")),
        ("general_settings: {allowed_ips: [10.0.0.1]}", (2, 20, "`allowed_ips` is not supported")),
        ("router_settings: {num_retrys: 2}", (2, 19, "unknown key `num_retrys`")),
        ("general_settings: {masterkey: x}", (2, 20, "unknown key `masterkey`")),
        ("litellm_settings: {drop_param: true}", (2, 20, "unknown key `drop_param`")),
        ("litellm_settings: {request_timeout: abc}",
         (2, 37, f"`request_timeout` must be {DURATION}, not `abc`")),
        ("environment_variables: {A: [x]}", (2, 28, "`A` must be a single value")),
        ("router_settings: []", (2, 18, "`router_settings` must be a mapping of keys to values")),
    ],
)  # fmt: skip
def test_section_mistakes(written: str, found: tuple[int, int, str], mistakes: Mistakes) -> None:
    assert mistakes(LIST + written) == [found]


def test_misspelt_keys_are_suggested(hints: Callable[..., list[str | None]]) -> None:
    text = LIST + "router_settings: {num_retrys: 2}\ngeneral_settings: {telemetri: false}"
    assert hints(text)[0] == "did you mean `num_retries`?"


def test_second_names_are_models_of_their_own(keyed: Load) -> None:
    loaded = keyed(
        LIST
        + "router_settings:\n  model_group_alias:\n    gpt-4o: m\n"
        + "    hidden-one: {model: m, hidden: true}\n"
    )
    first, second, third = loaded.config.models
    assert (second.name, third.name) == ("gpt-4o", "hidden-one")
    assert second.routes == third.routes == first.routes
    assert notes(loaded) == [(5, 28, "`hidden` has no effect: every alias is listed")]


@pytest.mark.parametrize(
    ("alias", "found"),
    [
        ("{m: m}", (2, 39, "alias `m` is already the name of a model of `model_list`")),
        ("{x: n}", (2, 42, "there is no model `n` in `model_list`")),
        ("{x: 5}", (2, 42, f"`model_group_alias` must be {NAME}, not `5`")),
    ],
)  # fmt: skip
def test_second_names_that_cannot_be(
    alias: str, found: tuple[int, int, str], mistakes: Mistakes
) -> None:
    assert mistakes(LIST + f"router_settings: {{model_group_alias: {alias}}}") == [found]


def test_default_params_hold_for_entries_that_do_not_say(keyed: Load) -> None:
    text = LIST + "router_settings: {default_litellm_params: {num_ctx: 4096, timeout: 200}}"
    (model,) = keyed(text).config.models
    assert model.context == 4096
    assert model.routes[0].timeouts.response_s == 200


def test_the_header_that_names_users(keyed: Load) -> None:
    assert keyed(LIST).config.access.user_header == "X-OpenWebUI-User-Id"
    said = keyed(LIST + "general_settings: {user_header_name: X-Person}\n").config
    assert said.access.user_header == "X-Person"
