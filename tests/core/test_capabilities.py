"""What becomes of a request that asks a model for what it cannot do."""

import itertools

import msgspec
import pytest

from arriero.base.errors import BadRequest, UnsupportedParameter
from arriero.config.settings import Backend, Model, Route, Routing
from arriero.core.capabilities import adapt, has_thinking, has_tools, has_vision, only_embeds
from arriero.core.fleet import Alias, Fleet
from arriero.wire.canonical import (
    Chat,
    Completion,
    Embedding,
    Message,
    Part,
    Sampling,
    Tool,
    ToolCall,
)
from arriero.wire.inventory import Listed

PLAIN = {"completion"}
ALL = {"completion", "tools", "vision", "thinking"}
EMBEDDER = {"embedding"}
UNKNOWN: set[str] = set()


def alias_of(*told: set[str] | None, settings: Model | None = None) -> Alias:
    """Return an alias whose hosts told these capabilities; None: no inventory yet."""
    hosts = [f"h{number}" for number in range(len(told))]
    routes = tuple(Route(backend=name, model="m:1") for name in hosts)
    model = msgspec.structs.replace(settings or Model(name="m", routes=()), routes=routes)
    fleet = Fleet([Backend(name=name, url=f"http://{name}") for name in hosts], [model], Routing())
    for name, capabilities in zip(hosts, told, strict=True):
        if capabilities is not None:
            fleet.hosts[name].installed = {"m:1": Listed("", frozenset(capabilities))}
    return fleet.aliases["m"]


def configured(**changes: object) -> Model:
    return msgspec.structs.replace(Model(name="m", routes=()), **changes)


def a_chat(**changes: object) -> Chat:
    chat = Chat(model="m", messages=[Message("user", "hello")], sampling=Sampling())
    return msgspec.structs.replace(chat, **changes)


def tooled(choice: bytes | None = None) -> Chat:
    return a_chat(
        tools=[Tool("weather")],
        tool_choice=None if choice is None else msgspec.Raw(choice),
        parallel_tool_calls=True,
    )


def pictured() -> Chat:
    parts = [Part("what is this?"), Part(image_base64="AAAA", image_type="image/png")]
    return a_chat(messages=[Message("user", "hello"), Message("user", parts)])


# -- facts


@pytest.mark.parametrize(
    ("told", "tools", "vision", "thinking"),
    [
        ([ALL], True, True, True),
        ([PLAIN], False, False, False),
        ([UNKNOWN], True, True, False),
        ([None], True, True, False),
        ([PLAIN, ALL], True, True, True),
        ([PLAIN, PLAIN], False, False, False),
        ([PLAIN, None], True, True, False),
        ([None, ALL], True, True, True),
        ([], True, True, False),
    ],
)
def test_an_alias_has_what_any_of_its_hosts_has(
    told: list[set[str] | None], *, tools: bool, vision: bool, thinking: bool
) -> None:
    alias = alias_of(*told)
    assert (has_tools(alias), has_vision(alias), has_thinking(alias)) == (tools, vision, thinking)


@pytest.mark.parametrize("setting", [True, False])
@pytest.mark.parametrize("told", [ALL, PLAIN, UNKNOWN, None])
def test_a_setting_comes_before_what_hosts_say(told: set[str] | None, *, setting: bool) -> None:
    settings = configured(tools=setting, vision=setting, thinking=setting)
    alias = alias_of(told, settings=settings)
    assert has_tools(alias) == has_vision(alias) == has_thinking(alias) == setting


def test_a_host_without_the_model_has_no_say() -> None:
    alias = alias_of(ALL, PLAIN)
    alias.targets[0].host.installed = {"another:1": Listed("", frozenset(ALL))}
    assert not has_tools(alias)


# -- tools


@pytest.mark.parametrize("choice", [None, b'"auto"'])
def test_tools_are_dropped_and_told(choice: bytes | None) -> None:
    chat = tooled(choice)
    assert adapt(chat, alias_of(PLAIN))
    assert (chat.tools, chat.tool_choice, chat.parallel_tool_calls) == ([], None, None)
    assert chat.ignored == ["tools"]


def test_earlier_calls_and_results_stay() -> None:
    messages = [
        Message("user", "weather?"),
        Message("assistant", tool_calls=[ToolCall("call_1", "weather", "{}")]),
        Message("tool", "sunny", tool_call_id="call_1"),
    ]
    chat = tooled()
    chat.messages = list(messages)
    assert adapt(chat, alias_of(PLAIN))
    assert chat.messages == messages


@pytest.mark.parametrize("policy", ["drop", "reject"])
def test_tools_that_the_client_forbids_to_call_are_dropped_silently(policy: str) -> None:
    chat = tooled(b'"none"')
    assert not adapt(chat, alias_of(PLAIN, settings=configured(unsupported_tools=policy)))
    assert (chat.tools, chat.ignored) == ([], [])


@pytest.mark.parametrize("policy", ["drop", "reject"])
@pytest.mark.parametrize("choice", [b'"required"', b'{"type":"function"}'])
def test_a_call_that_must_be_made_is_refused(choice: bytes, policy: str) -> None:
    chat = tooled(choice)
    with pytest.raises(UnsupportedParameter, match="demands a call") as caught:
        adapt(chat, alias_of(PLAIN, settings=configured(unsupported_tools=policy)))
    assert (caught.value.param, caught.value.status) == ("tool_choice", 400)
    assert caught.value.hint


def test_tools_can_be_refused_by_configuration() -> None:
    chat = tooled()
    with pytest.raises(UnsupportedParameter, match="cannot call tools") as caught:
        adapt(chat, alias_of(PLAIN, settings=configured(unsupported_tools="reject")))
    assert caught.value.param == "tools"
    assert caught.value.hint


@pytest.mark.parametrize("policy", ["drop", "reject"])
@pytest.mark.parametrize("told", [ALL, UNKNOWN, None])
def test_tools_are_sent_where_they_can_be_used(told: set[str] | None, policy: str) -> None:
    chat, before = tooled(b'"required"'), tooled(b'"required"')
    assert not adapt(chat, alias_of(told, settings=configured(unsupported_tools=policy)))
    assert chat == before


def test_what_was_ignored_before_is_kept() -> None:
    chat = tooled()
    chat.ignored = ["store"]
    chat.think = True
    adapt(chat, alias_of(PLAIN))
    assert chat.ignored == ["store", "tools", "think"]


# -- thinking


@pytest.mark.parametrize(
    ("think", "told"), [(True, ["think"]), ("high", ["think"]), (False, []), (None, [])]
)
def test_thinking_is_dropped_and_told_and_not_thinking_silently(
    *, think: bool | str | None, told: list[str]
) -> None:
    chat = a_chat(think=think)
    assert not adapt(chat, alias_of(PLAIN))
    assert (chat.think, chat.ignored) == (None, told)


@pytest.mark.parametrize("think", [True, False, "low"])
def test_thinking_is_asked_of_those_who_can(*, think: bool | str) -> None:
    chat = a_chat(think=think)
    adapt(chat, alias_of(ALL))
    assert (chat.think, chat.ignored) == (think, [])


# -- images


def test_images_for_a_blind_model_are_refused() -> None:
    with pytest.raises(UnsupportedParameter, match="cannot see images") as caught:
        adapt(pictured(), alias_of(PLAIN))
    assert caught.value.param == "messages"
    assert caught.value.hint


@pytest.mark.parametrize("told", [ALL, UNKNOWN, None])
def test_images_are_sent_to_who_may_see(told: set[str] | None) -> None:
    chat = pictured()
    adapt(chat, alias_of(told))
    assert chat == pictured()


def test_parts_without_an_image_need_no_eyes() -> None:
    chat = a_chat(messages=[Message("user", [Part("one"), Part("two")])])
    assert not adapt(chat, alias_of(PLAIN))


# -- generation


@pytest.mark.parametrize(
    ("told", "mode", "embeds"),
    [
        ([EMBEDDER], None, True),
        ([EMBEDDER, None], None, True),
        ([EMBEDDER, PLAIN], None, False),
        ([EMBEDDER | PLAIN], None, False),
        ([PLAIN], None, False),
        ([UNKNOWN], None, False),
        ([None], None, False),
        ([], None, False),
        ([None], "embedding", True),
        ([PLAIN], "embedding", True),
        ([EMBEDDER], "chat", False),
        ([EMBEDDER], "completion", False),
    ],
)
def test_who_can_only_embed(told: list[set[str] | None], mode: str | None, *, embeds: bool) -> None:
    assert only_embeds(alias_of(*told, settings=configured(mode=mode))) is embeds


@pytest.mark.parametrize("kind", ["chat", "completion"])
def test_generation_by_an_embedder_is_refused(kind: str) -> None:
    completion = Completion(model="m", prompt="once", sampling=Sampling())
    with pytest.raises(BadRequest, match="makes embeddings") as caught:
        adapt(a_chat() if kind == "chat" else completion, alias_of(EMBEDDER))
    assert (caught.value.param, caught.value.status) == ("model", 400)
    assert "/v1/embeddings" in caught.value.text


@pytest.mark.parametrize("told", [EMBEDDER, PLAIN, None])
def test_embeddings_are_asked_of_anyone(told: set[str] | None) -> None:
    wanted = Embedding(model="m", inputs=["text"])
    assert not adapt(wanted, alias_of(told, settings=configured(unsupported_tools="reject")))


def test_a_completion_goes_to_who_generates() -> None:
    assert not adapt(Completion(model="m", prompt="once", sampling=Sampling()), alias_of(PLAIN))


# -- together


def test_a_refused_request_is_unchanged() -> None:
    for choice, think, seen in itertools.product(
        (None, b'"required"'), (None, True), (False, True)
    ):
        chat = tooled(choice)
        chat.think = think
        if seen:
            chat.messages = pictured().messages
        before = msgspec.structs.replace(chat, ignored=list(chat.ignored))
        with pytest.raises(UnsupportedParameter):
            adapt(chat, alias_of(PLAIN, settings=configured(unsupported_tools="reject")))
        assert chat == before
