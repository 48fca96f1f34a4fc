"""Generation: a slot, prefill, one piece a token, and the faults that strike in mid-stream."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from arriero.testing.clock import LoopClock
from arriero.testing.faults import Fault, Kind
from arriero.testing.ollama.compose import Answer
from arriero.testing.ollama.scheduler import Runner, Slot

CRASHED: Final = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an "
    "internal error, check ollama server logs for details"
)
ENCOUNTERED: Final = "an error was encountered while running the model: "
OUT_OF_MEMORY: Final = "cudaMalloc failed: out of memory"
REPEATED: Final = 31  # tokens until Ollama's guard against repetition stops, llm/llama_server.go
# How many instant tokens come between two looks at the event loop.
_BREATH_TOKENS: Final = 8


class RunnerFailed(Exception):
    """Generation failed; the text is Ollama's. Ends as status 500 or as a stream's error line."""


class SilentEnd(Exception):
    """The stream ends cleanly without a `done` line."""


class Cut(Exception):
    """The connection is to be cut: with RST, or with FIN where the stream stands."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__("reset" if reset else "closed")
        self.reset = reset


@dataclass(slots=True)
class Piece:
    """What one token brings; the last has `done_reason` and the counters."""

    content: str = ""
    thinking: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    done_reason: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    prompt_s: float = 0.0
    answer_tokens: int = 0
    answer_s: float = 0.0
    malformed: bool = False


class Engine:
    """Runs answers on runners; `out_of_memory` is called when one ran out of memory."""

    def __init__(self, out_of_memory: Callable[[], None]) -> None:
        self._out_of_memory = out_of_memory
        self._clock = LoopClock()

    async def pieces(
        self, runner: Runner, prompt: list[str], answer: Answer, fault: Fault | None
    ) -> AsyncGenerator[Piece, None]:
        """Yield the answer at the model's pace; raises what `fault` asks for."""
        async with runner.slot(prompt) as slot:
            last = Piece(done_reason=answer.done_reason, prompt_tokens=len(prompt))
            await self._prefill(runner, slot, prompt, last)
            started_s = self._clock.now_s()
            unfolded = _unfold(answer, fault)
            if answer.tool_calls and not runner.model.tool_calls_last:
                unfolded.append(Piece(tool_calls=answer.tool_calls))
            for at, piece in enumerate(unfolded):
                await self._strike(runner, fault, at)
                piece.malformed = _malformed(fault, at)
                await self._pace(runner, started_s, at + 1)
                runner.stats.tokens += 1
                yield piece
            # A fault that waits for more pieces than there are strikes before the last line.
            await self._strike(runner, fault, max(len(unfolded), fault.after if fault else 0))
            if runner.model.tool_calls_last:
                last.tool_calls = answer.tool_calls
            last.answer_tokens = answer.generated
            last.answer_s = self._clock.now_s() - started_s
            slot.cached = [*prompt, *answer.thinking, *answer.content]
        yield last

    async def _prefill(self, runner: Runner, slot: Slot, prompt: list[str], last: Piece) -> None:
        started_s = self._clock.now_s()
        cached = slot.common_prefix(prompt)
        runner.stats.generations += 1
        runner.stats.prompt_tokens += len(prompt)
        runner.stats.prompt_tokens_cached += cached
        slot.cached = prompt
        await asyncio.sleep((len(prompt) - cached) / runner.model.prefill_tps)
        last.cached_tokens = cached
        last.prompt_s = self._clock.now_s() - started_s

    async def _pace(self, runner: Runner, started_s: float, done: int) -> None:
        wait_s = started_s + done / runner.model.decode_tps - self._clock.now_s()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        elif done % _BREATH_TOKENS == 0:
            await asyncio.sleep(0)

    async def _strike(self, runner: Runner, fault: Fault | None, at: int) -> None:
        if fault is None:
            return
        if fault.kind is Kind.SLOW:
            await asyncio.sleep(fault.delay_s)
        elif fault.kind is Kind.WEDGED or (fault.kind is Kind.HANG_MID and at == fault.after):
            await asyncio.Event().wait()
        elif at == fault.after:
            self._break(runner, fault, at)

    def _break(self, runner: Runner, fault: Fault, at: int) -> None:
        match fault.kind:
            case Kind.RESET_MID | Kind.CLOSE_MID:
                raise Cut(reset=fault.kind is Kind.RESET_MID)
            case Kind.EOF_MID | Kind.REPEAT:
                raise SilentEnd
            case Kind.ERROR_MID:
                raise RunnerFailed(fault.text or f"{ENCOUNTERED}unexpected EOF")
            case Kind.CRASH:
                runner.dead = True
                raise RunnerFailed(fault.text or f"{ENCOUNTERED}unexpected EOF")
            case Kind.OUT_OF_MEMORY:
                self._out_of_memory()
                raise RunnerFailed(fault.text or f"{ENCOUNTERED if at else ''}{OUT_OF_MEMORY}")


def logprobs(text: str, top: int) -> list[dict[str, Any]]:
    """Return made-up log probabilities of one token, in Ollama's shape."""
    own = {"token": text, "logprob": -0.125, "bytes": list(text.encode())}
    if not top:
        return [own]
    others = [
        {"token": f"alt{at}", "logprob": -1.0 - at, "bytes": list(f"alt{at}".encode())}
        for at in range(top - 1)
    ]
    return [{**own, "top_logprobs": [own, *others]}]


def _unfold(answer: Answer, fault: Fault | None) -> list[Piece]:
    pieces = [Piece(thinking=token) for token in answer.thinking]
    pieces += [Piece(content=token) for token in answer.content]
    if fault is not None and fault.kind is Kind.REPEAT:
        again = pieces[fault.after].content if fault.after < len(pieces) else " the"
        pieces[fault.after :] = [Piece(content=again)] * REPEATED
        fault.after = len(pieces)
    return pieces


def _malformed(fault: Fault | None, at: int) -> bool:
    return fault is not None and fault.kind is Kind.MALFORMED_MID and at == fault.after
