"""Keeps a gateway in touch with the others: ten times a second, and when somebody lacks a share.

Requests that lack one are gathered while an exchange is under way and go into the next one, so
that there is never more than one, however many wait. When the place where the gateways meet is
away, everybody goes on by what is known here, and the link tries again twice a second.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

import msgspec

from arriero.base.clock import Clock
from arriero.core.hints import Hint
from arriero.core.limits import Limiter
from arriero.core.others import State
from arriero.core.permits import Permits
from arriero.core.shares import Claimant, Sharing
from arriero.peers.port import Board, Fleet, Heard, PeersUnavailable

TICK_S = 0.1
POLL_S = 0.025  # while somebody waits for a permit
RETRY_S = 0.5
CLAIMS_MAX = 256  # in one exchange, which stops the server for everybody

_GARBLED = "another gateway says what is not understood here"
_decode_hints = msgspec.json.Decoder(list[Hint]).decode

_log = logging.getLogger("arriero.peers")


class Link:
    """A board at work."""

    def __init__(
        self,
        board: Board,
        clock: Clock,
        limiter: Limiter,
        fleet: Fleet,
    ) -> None:
        """Tell of `fleet` and let it hear of the others; hold `limiter` to what all of them use."""
        self._board = board
        self._clock = clock
        self._limiter = limiter
        self._fleet = fleet
        self._waiting: dict[Callable[[], None], None] = {}
        self._wanted = asyncio.Event()
        self._told_down = False
        self._tick_s = 0.0  # when the next is due
        self.sharing = Sharing()
        self.sharing.hurry = self._wanted.set
        limiter.sharing = self.sharing
        self.others = 0  # gateways besides this one

    @property
    def is_up(self) -> bool:
        """Whether limits and counts are common now."""
        return self.sharing.live

    def wait(self, go_on: Callable[[], None]) -> None:
        """Call back when what was claimed of shares has been answered, or cannot be."""
        self._waiting[go_on] = None
        self._wanted.set()

    def leave(self, go_on: Callable[[], None]) -> None:
        """Call back no more."""
        self._waiting.pop(go_on, None)

    async def begin(self) -> None:
        """Meet the others for the first time, if they can be reached."""
        await self._turn(tick=True)

    async def run(self) -> None:
        """Keep in touch until cancelled.

        redis-py swallows a cancellation that comes at the end of a command, so it is asked for.
        """
        task = asyncio.current_task()
        assert task is not None
        while not task.cancelling():
            tick = True
            if self.is_up:
                tick = await self._until_wanted()
            else:
                await asyncio.sleep(RETRY_S)
            await self._turn(tick=tick)

    async def close(self) -> None:
        """Tell the others, if they can be reached, that this gateway is gone."""
        with contextlib.suppress(PeersUnavailable):  # they will notice within a second
            await self._board.close()

    async def _until_wanted(self) -> bool:
        """Wait for the next tick, or until somebody lacks something; return whether it is a tick.

        Ticks also come when somebody always does. What another gateway gives back is not told to
        those who wait: they ask.
        """
        left_s = self._tick_s - self._clock.now_s()
        if any(isinstance(one, Permits) and one.line for one in self.sharing.active):
            left_s = min(left_s, POLL_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(left_s, 0.0)):
                await self._wanted.wait()
        now_s = self._clock.now_s()
        if now_s < self._tick_s:
            return False
        self._tick_s = now_s + TICK_S
        return True

    async def _turn(self, *, tick: bool) -> None:
        self._wanted.clear()
        waiting, self._waiting = self._waiting, {}
        try:
            await self._exchange(tick=tick)
        except PeersUnavailable as error:
            self._lose(str(error))
            waiting |= self._waiting  # those who came meanwhile wait for nothing more
            self._waiting = {}
        for go_on in waiting:
            go_on()

    async def _exchange(self, *, tick: bool) -> None:
        sharing = self.sharing
        state = msgspec.json.encode(self._fleet.state()).decode()
        if sharing.live:
            asking = [(one, one.claim(tick=tick)) for one in sharing.active]
            claims = [(one, claim) for one, claim in asking if claim is not None]
        else:
            await self._ask([], state)  # what was used is told by the seconds of the clock there
            claims = self._limiter.claims_afresh(self._clock.now_s())
        hints = self._fleet.hints() if tick else []
        told = msgspec.json.encode(hints).decode() if hints else ""
        heard = await self._ask(claims[:CLAIMS_MAX], state, told)
        for start in range(CLAIMS_MAX, len(claims), CLAIMS_MAX):
            await self._ask(claims[start : start + CLAIMS_MAX], state)
        sharing.rest()
        self._take_over(heard)
        for name in heard.pressing:
            if name in sharing.permits:
                sharing.permits[name].press()
        if not sharing.live:
            sharing.live = True
            self._told_down = False
            _log.info("peers available", extra={"others": len(heard.others)})

    async def _ask(
        self, claims: Sequence[tuple[Claimant, msgspec.Struct]], state: str, hints: str = ""
    ) -> Heard:
        names = [one.name for one, _ in claims]
        heard = await self._board.exchange(names, [claim for _, claim in claims], state, hints)
        self.sharing.offset_s = heard.now_s - self._clock.now_s()
        for (one, _), grant in zip(claims, heard.grants, strict=True):
            one.take_over(grant, int(heard.now_s))
            if not one.idle:
                self.sharing.active[one] = None
        try:
            for told in heard.hints:
                self._fleet.heed(_decode_hints(told))
        except msgspec.DecodeError as error:
            raise PeersUnavailable(_GARBLED) from error
        return heard

    def _take_over(self, heard: Heard) -> None:
        try:
            states = [msgspec.json.decode(state, type=State) for _, state in heard.others]
        except msgspec.DecodeError as error:
            raise PeersUnavailable(_GARBLED) from error
        self.others = len(heard.others)
        rank = sum(name < self._board.name for name, _ in heard.others)
        self._fleet.hear(states, rank, heard.now_s)

    def _lose(self, reason: str) -> None:
        self.sharing.lose()
        self.others = 0
        self._fleet.hear([], 0, 0.0)
        if not self._told_down:
            self._told_down = True
            _log.error("peers unavailable: serving by what is known here", extra={"reason": reason})
