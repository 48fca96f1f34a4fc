"""A prompt that does not fit is refused with both figures, and never cut in silence."""

import re
from typing import Any

import msgspec
import pytest
from tests.integration.arena import ALIAS, MODEL, serving, settings, sim
from tests.integration.asking import Answer, ask, asking

from arriero.config.settings import Config
from arriero.testing.ollama import OllamaSim

CONTEXT = 512


def with_model(config: Config, **changes: Any) -> Config:
    models = tuple(msgspec.structs.replace(each, **changes) for each in config.models)
    return msgspec.structs.replace(config, models=models)


def words(count: int) -> str:
    return " ".join(["llama"] * count)


def figures(answer: Answer) -> tuple[int, int]:
    """Return needed and available of a refusal."""
    assert answer.status == 400
    assert answer.error
    assert answer.error["code"] == "context_length_exceeded"
    assert "hint:" in answer.error["message"]
    found = re.search(
        r"maximum context length is (\d+) tokens, and the prompt has (?:about )?(\d+)",
        answer.error["message"],
    )
    assert found, answer.error["message"]
    return int(found[2]), int(found[1])


def generations(host: OllamaSim) -> int:
    return host.stats.of(MODEL).generations


@pytest.mark.parametrize("stream", [False, True])
async def test_the_host_refuses_with_both_figures(*, stream: bool) -> None:
    async with sim() as host:
        config = with_model(settings(host), context=CONTEXT)
        async with serving(config) as running:
            answer = await ask(running.port, text=words(600), stream=stream)
            needed, available = figures(answer)
            assert available == CONTEXT
            assert 600 < needed < 700
            assert generations(host) == 0
            assert running.host("a").breaker.failures == 0, "nobody's fault but the prompt's"


async def test_what_fits_is_answered_whole() -> None:
    async with sim() as host:
        config = with_model(settings(host), context=CONTEXT)
        async with serving(config) as running:
            answer = await ask(running.port, text=words(400))
            assert answer.good
            assert answer.json["usage"]["prompt_tokens"] > 400


async def test_the_alias_may_allow_to_cut() -> None:
    async with sim() as host:
        config = with_model(settings(host), context=CONTEXT, overflow="truncate")
        async with serving(config) as running:
            answer = await ask(running.port, text=words(600))
            assert answer.good
            assert answer.json["usage"]["prompt_tokens"] < CONTEXT, "it was cut"
            assert (await ask(running.port, text=words(20_000))).good, "however long"


async def test_what_is_clearly_too_long_reaches_no_host() -> None:
    async with sim() as host:
        config = with_model(settings(host), context=CONTEXT)
        async with serving(config) as running:
            asked = host.stats.endpoints["POST /api/chat"]
            needed, available = figures(await ask(running.port, text=words(20_000)))
            assert available == CONTEXT
            assert needed > 10_000
            assert host.stats.endpoints["POST /api/chat"] == asked


async def test_the_context_is_learnt_from_the_host() -> None:
    host = OllamaSim([*sim().models], context_length=CONTEXT).hold(MODEL)
    async with host, serving(settings(host)) as running:
        assert running.station("a").group.context == CONTEXT
        assert figures(await ask(running.port, text=words(20_000)))[1] == CONTEXT
        assert host.stats.endpoints["POST /api/chat"] == 0


async def test_how_many_tokens_a_byte_is_is_learnt_from_answers() -> None:
    async with sim() as host:
        config = with_model(settings(host), context=4096)
        async with serving(config) as running:
            ratios = running.gateway.runtime.fleet.roster.ratios
            before = ratios.tokens(MODEL, 100_000)
            for stream in (False, True):
                assert (await ask(running.port, text=words(1000), stream=stream)).good
            learnt = ratios.tokens(MODEL, 100_000)
            assert learnt != before
            assert 100_000 // 7 < learnt < 100_000 // 5, "one token for six bytes"


async def test_the_operators_limit_is_kept() -> None:
    async with sim() as host:
        config = with_model(settings(host), max_input_tokens=1000)
        async with serving(config) as running:
            assert (await ask(running.port, text=words(500))).good
            assert figures(await ask(running.port, text=words(3000)))[1] == 1000
            assert generations(host) == 1


async def test_embeddings_are_not_cut_either() -> None:
    async with sim(capabilities=("embedding",), cold=True) as host:
        config = with_model(settings(host), context=CONTEXT)
        async with serving(config) as running:
            body = {"model": ALIAS, "input": ["short", words(600)]}
            async with asking(running.port, body, "/v1/embeddings") as asked:
                answer = await asked.answer()
            needed, available = figures(answer)
            assert (needed > available, available) == (True, CONTEXT)
