"""What becomes of a request that asks a model for what it cannot do.

Ollama answers 400 to tools for a model without tools, and 400 to `think` for one that does not
think. Open WebUI sends 20 KB of tools with every chat, so that a plain model behind it would never
answer. What a model can be given without changing the meaning of the request is dropped and told;
what cannot, is refused with a way out.

    asked for             the alias lacks it                                  nobody knows
    tools                 dropped and told, or refused: `unsupported_tools`   sent
    a call it must make   refused: an answer in words is not what was asked   sent
    thinking              dropped and told; "do not think" dropped silently   dropped and told
    images                refused: an answer about nothing is worse           sent
    generation            refused, when it can only embed                     sent

A setting of the alias comes before what the hosts say. An alias has what any of its hosts has.
"""

from collections.abc import Iterator

from arriero.base.errors import BadRequest, UnsupportedParameter
from arriero.core.fleet import Alias
from arriero.wire.canonical import CanonicalRequest, Chat, Embedding

# The choices that an answer without any call still honours (None: the client did not choose).
_OPTIONAL_CALLS = frozenset({b'"auto"', b'"none"'})


def adapt(request: CanonicalRequest, alias: Alias) -> bool:
    """Fit `request` to what `alias` can do; return True when that cost it its tools.

    The request is changed in place; what was dropped and must be told is added to its `ignored`.
    Raises BadRequest and UnsupportedParameter, and has changed nothing then.
    """
    if not isinstance(request, Embedding) and only_embeds(alias):
        raise _generates_nothing(alias)
    if not isinstance(request, Chat):
        return False
    if request.text_only and not request.tools and request.think is None:
        return False  # there is nothing to adapt in most chats
    if not request.text_only:
        _check_images(request, alias)
    lost_tools = bool(request.tools) and _drop_tools(request, alias)
    lost_thinking = request.think is not None and _drop_thinking(request, alias)
    if lost_tools:
        request.ignored.append("tools")
    if lost_thinking:
        request.ignored.append("think")
    return lost_tools


def has_tools(alias: Alias) -> bool:
    """Say whether the alias can call tools; what nobody knows is tried."""
    return _has(alias, "tools", alias.settings.tools, unknown=True)


def has_vision(alias: Alias) -> bool:
    """Say whether the alias can see images; what nobody knows is tried."""
    return _has(alias, "vision", alias.settings.vision, unknown=True)


def has_thinking(alias: Alias) -> bool:
    """Say whether the alias can think aloud; what nobody knows is not tried."""
    return _has(alias, "thinking", alias.settings.thinking, unknown=False)


def only_embeds(alias: Alias) -> bool:
    """Say whether the alias cannot generate text at all."""
    if alias.settings.mode is not None:
        return alias.settings.mode == "embedding"
    told = False
    for branch in alias.branches:
        if branch.hosts & branch.group.generating:
            return False  # one host that can is enough
    for target in alias.targets:
        installed = target.host.installed
        listed = installed.get(target.model) if installed else None
        told = told or (listed is not None and bool(listed.capabilities))
    return told


def _told(alias: Alias) -> Iterator[frozenset[str]]:
    """Yield what each host that may have the model says of it; empty when it does not say."""
    for target in alias.targets:
        installed = target.host.installed
        if installed is None:
            yield frozenset()
        elif target.model in installed:
            yield installed[target.model].capabilities


def _has(alias: Alias, capability: str, setting: bool | None, *, unknown: bool) -> bool:  # noqa: FBT001 - a fact, not a switch
    if setting is not None:
        return setting
    told = list(_told(alias)) or [frozenset()]
    return any(capability in each if each else unknown for each in told)


def _generates_nothing(alias: Alias) -> BadRequest:
    return BadRequest(
        f"the model {alias.name!r} makes embeddings and cannot generate text",
        param="model",
        hint="choose another model, or send the text to /v1/embeddings",
    )


def _check_images(chat: Chat, alias: Alias) -> None:
    if _has_images(chat) and not has_vision(alias):
        raise UnsupportedParameter(
            f"the model {alias.name!r} cannot see images",
            param="messages",
            hint="choose a model with vision, or leave the images out",
        )


def _has_images(chat: Chat) -> bool:
    for message in chat.messages:
        content = message.content
        if not isinstance(content, str) and any(part.image_base64 for part in content):
            return True
    return False


def _drop_tools(chat: Chat, alias: Alias) -> bool:
    if not chat.tools or has_tools(alias):
        return False
    choice = b'"auto"' if chat.tool_choice is None else bytes(chat.tool_choice)
    if choice not in _OPTIONAL_CALLS:
        raise UnsupportedParameter(
            f"the model {alias.name!r} cannot call tools, and `tool_choice` demands a call",
            param="tool_choice",
            hint="choose a model with tools, or send `tool_choice: auto`",
        )
    if choice == b'"auto"' and alias.settings.unsupported_tools == "reject":
        raise UnsupportedParameter(
            f"the model {alias.name!r} cannot call tools",
            param="tools",
            hint="choose a model with tools, or send none",
        )
    chat.tools = []  # earlier calls and their results stay in the messages: they are its memory
    chat.tool_choice = None
    chat.parallel_tool_calls = None
    return choice == b'"auto"'  # who forbids all calls loses nothing with the tools


def _drop_thinking(chat: Chat, alias: Alias) -> bool:
    if chat.think is None or has_thinking(alias):
        return False
    wanted, chat.think = chat.think, None
    return wanted is not False
