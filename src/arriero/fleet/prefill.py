"""Finds out which templates leave the assistant's last message open, before anybody needs to know.

Asked are hosts that have the model in memory: at the first look, and when a model's first stream
has begun. To ask about another would load it. Nothing is generated, and nothing is asked twice.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping

from arriero.core.fleet import Alias, Fleet, Target
from arriero.core.prefill import Ending, Prefill, Template, Verdicts, template_of
from arriero.core.roster import Group
from arriero.fleet.errors import UpstreamError
from arriero.fleet.fetch import fetch
from arriero.fleet.pool import Pool
from arriero.wire import prefill as wire
from arriero.wire.canonical import Chat
from arriero.wire.ollama import OLLAMA
from arriero.wire.openai_backend import OPENAI

LOOK_INTERVAL_S = 1.0
TIMEOUT_S = 10.0
PENDING_MAX = 64
STATUS_OK = 200
# The server is there and says no: it does not know the path, or the model cannot have that.
_CANNOT = frozenset({400, 404, 405, 422, 501})

_log = logging.getLogger("arriero.fleet")


class Verifier:
    """Keeps `verdicts` complete for what is loaded; `view` is the fleet of the moment."""

    def __init__(
        self, verdicts: Verdicts, view: Callable[[], tuple[Fleet, Mapping[str, Pool]]]
    ) -> None:
        self._verdicts = verdicts
        self._view = view
        self._wanted = asyncio.Event()
        self._pending: dict[Template, tuple[Alias, Target]] = {}
        self._seen: dict[
            Group, int
        ] = {}  # masks: the hosts on which it was loaded at the last look

    def nudge(self, alias: Alias, target: Target) -> None:
        """A stream has begun there: the model is loaded, whatever the inventory knows."""
        self._want(alias, target)
        if self._pending:
            self._wanted.set()

    async def run(self) -> None:
        """Look and ask until cancelled."""
        while True:
            try:
                async with asyncio.timeout(LOOK_INTERVAL_S):
                    await self._wanted.wait()
            except TimeoutError:
                self._look()
            self._wanted.clear()
            pending, self._pending = self._pending, {}
            async with asyncio.TaskGroup() as group:
                for template, (alias, target) in pending.items():
                    group.create_task(self._verify(template, alias, target))

    def _look(self) -> None:
        """Want a verdict about each model that has come to be loaded since the last look."""
        fleet, _ = self._view()
        for alias in fleet.aliases.values():
            for branch in alias.branches:
                group = branch.group
                ready = group.resident | (group.usable & fleet.roster.available)
                if self._seen.get(group) == ready:
                    continue
                for target in alias.targets:
                    if target.station.group is group and _is_loaded(target):
                        self._want(alias, target)
        for group in fleet.roster.groups.values():
            self._seen[group] = group.resident | (group.usable & fleet.roster.available)

    def _want(self, alias: Alias, target: Target) -> None:
        template = template_of(target.host, target.model)
        if template is None or self._verdicts.get(template) is not None:
            return
        if len(self._pending) < PENDING_MAX:
            self._pending.setdefault(template, (alias, target))

    async def _verify(self, template: Template, alias: Alias, target: Target) -> None:
        """Ask, and note the verdict; without an answer the next stream has it asked again."""
        host = target.host
        listed = (host.installed or {}).get(target.model)
        capabilities = listed.capabilities if listed is not None else frozenset[str]()
        try:
            renderer = _Renderer(self._view()[1][host.name], alias, target)
            prefill = await _verdict(renderer, wire.variants(alias.name, capabilities))
        except (OSError, UpstreamError, ValueError, KeyError) as error:
            _log.debug("prefill not verified", extra={"backend": host.name, "reason": str(error)})
            return
        self._verdicts.put(template, prefill)
        told = {name: getattr(prefill, name).name.lower() for name in Prefill.__struct_fields__}
        _log.info("prefill verified", extra={"backend": host.name, "model": target.model, **told})


def _is_loaded(target: Target) -> bool:
    """Say whether asking loads nothing; a server of OpenAI's API has its model always loaded."""
    return target.station.resident or target.host.kind == "openai"


async def _verdict(renderer: "_Renderer", variants: wire.Variants) -> Prefill:
    plain = await renderer.ending(variants.plain)
    if plain is Ending.CLOSED:
        return Prefill()
    tools = await renderer.ending(variants.tools)
    thinking = await renderer.ending(variants.thinking, thought=wire.THOUGHT)
    return Prefill(plain, tools, thinking)


class _Renderer:
    """Has one host render conversations for one model."""

    def __init__(self, pool: Pool, alias: Alias, target: Target) -> None:
        self._pool = pool
        self._alias = alias
        self._target = target

    async def ending(self, chat: Chat | None, *, thought: str = "") -> Ending:
        """Return what becomes of the last message.

        Raises OSError, UpstreamError and TimeoutError when the host does not answer, and ValueError
        on what is no answer.
        """
        host = self._target.host
        if chat is None or (host.kind == "ollama" and not wire.can_render(host.version)):
            return Ending.CLOSED
        prompt = await (self._ollama(chat) if host.kind == "ollama" else self._openai(chat))
        if prompt is None or thought not in prompt:
            return Ending.CLOSED
        if prompt.endswith(wire.BEGUN):
            return Ending.KEPT
        return Ending.TRIMMED if prompt.endswith(wire.BEGUN.rstrip()) else Ending.CLOSED

    async def _ollama(self, chat: Chat) -> str | None:
        body = wire.body_of(OLLAMA, chat, self._target.model, self._alias.settings)
        answer = await self._post(wire.OLLAMA_PATH, wire.ollama_body(body))
        return None if answer is None else wire.decode_rendered(answer)

    async def _openai(self, chat: Chat) -> str | None:
        body = wire.body_of(OPENAI, chat, self._target.model, self._alias.settings)
        answer = await self._post(wire.LLAMA_PATH, body)
        if answer is not None:
            return wire.decode_prompt(answer)
        answer = await self._post(wire.VLLM_PATH, body)
        if answer is None:
            return None
        tokens = wire.decode_tokens(answer)
        back = wire.detokenize_body(self._target.model, tokens)
        answer = await self._post(wire.VLLM_BACK_PATH, back)
        return None if answer is None else wire.decode_prompt(answer)

    async def _post(self, path: bytes, body: bytes) -> bytes | None:
        """Return the answer, None when the server cannot do that."""
        status, answer = await fetch(self._pool, path, TIMEOUT_S, body)
        if status == STATUS_OK:
            return answer
        if status in _CANNOT:
            return None
        raise ValueError(f"{path.decode()} answered {status}")
