"""How the gateway's own requests end: in the words of the table for all attempts."""

import pytest
from tests.fleet.backends import spawn

from arriero.config.settings import Backend
from arriero.core.attempts import End
from arriero.fleet.own import Answer, ask
from arriero.fleet.pool import Pool
from arriero.testing.faults import Fault, Kind
from arriero.testing.ollama import OllamaSim, SimModel
from arriero.wire.ollama import OLLAMA

BODY = b'{"model": "llama3", "stream": false}'


async def asked(url: str, body: bytes = BODY) -> Answer:
    pool = Pool(Backend(name="a", url=url), spawn)
    return await ask(pool, OLLAMA, b"/api/generate", body, timeout_s=0.2, connect_timeout_s=0.2)


async def test_an_answer_is_handed_on() -> None:
    async with OllamaSim([SimModel("llama3")]) as sim:
        answer = await asked(sim.url)
        assert answer.end is End.ANSWERED
        assert b'"done_reason":"load"' in answer.body


@pytest.mark.parametrize(
    ("fault", "end"),
    [
        (Fault(kind=Kind.HANG), End.TIMED_OUT),
        (Fault(kind=Kind.RESET), End.RESET),
        (Fault(kind=Kind.GARBAGE), End.MALFORMED),
        (Fault(kind=Kind.STATUS, status=500), End.FAILED),
        (Fault(kind=Kind.STATUS, status=503), End.BUSY),
        (Fault(kind=Kind.STATUS, status=404), End.MISSING_MODEL),
        (Fault(kind=Kind.STATUS, status=400, text="bad"), End.CLIENT_FAULT),
    ],
)
async def test_each_end(fault: Fault, end: End) -> None:
    async with OllamaSim([SimModel("llama3")]) as sim:
        sim.faults.add(fault)
        assert (await asked(sim.url)).end is end


async def test_nobody_there() -> None:
    async with OllamaSim([SimModel("llama3")]) as sim:
        sim.refuse()
        assert (await asked(sim.url)).end is End.REFUSED
