"""The clients: each asks one thing after the other and compares every answer with what is due."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import msgspec

from arriero.testing.ollama import Turn
from arriero.testing.text import tokens
from benchmarks.chaos.backends import MODEL

ALIAS = "llama"
KEY = "sk-chaos-0123456789abcdef"
WORDS = (20, 80)
WHOLE_SHARE = 0.1  # of the requests are not streamed
ANSWER_TIMEOUT_S = 120.0
EXAMPLES_MAX = 20


@dataclass
class Tally:
    """What came of all requests."""

    streams: int = 0
    whole: int = 0
    failed: int = 0  # no answer
    broken: int = 0  # an answer without its end
    altered: int = 0  # another text than the one that is due
    miscounted: int = 0  # another usage than that of an undisturbed answer
    characters: int = 0
    first_token_s: list[float] = field(default_factory=list)
    gap_s: list[float] = field(default_factory=list)  # the longest of each stream
    codes: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)  # of what went wrong

    @property
    def bad(self) -> int:
        """How many answers were not what they should have been."""
        return self.failed + self.broken + self.altered + self.miscounted


@dataclass(frozen=True)
class Asked:
    """A request, and the answer that is due."""

    prompt: str
    stream: bool

    @property
    def text(self) -> str:
        """What the model says to it, whoever runs it."""
        return MODEL.say(Turn(MODEL.name, self.prompt, 0))

    def body(self) -> bytes:
        """Return the request's body."""
        body: dict[str, object] = {
            "model": ALIAS,
            "messages": [{"role": "user", "content": self.prompt}],
        }
        if self.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return msgspec.json.encode(body)


@dataclass
class Received:
    """A response as it came."""

    head: bytes = b""
    body: bytes = b""
    first_s: float = 0.0
    gap_s: float = 0.0

    @property
    def status(self) -> int:
        """The status, 0 when there was none."""
        words = self.head.split(b" ", 2)
        return int(words[1]) if len(words) > 1 else 0


def ask_of(chance: random.Random) -> Asked:
    """Return the next request of a client."""
    words = chance.randint(*WORDS)
    prompt = f"Story {chance.getrandbits(40):x} in {words} words"
    return Asked(prompt, stream=chance.random() >= WHOLE_SHARE)


def judge(asked: Asked, received: Received, tally: Tally) -> None:
    """Count one answer."""
    tally.streams += asked.stream
    tally.whole += not asked.stream
    if received.status != 200:
        tally.failed += 1
        _note(tally, asked, "failed", received)
        return
    try:
        text, finish, usage, ids = (
            _read_stream(received.body) if asked.stream else _read_whole(received.body)
        )
    except (ValueError, KeyError, IndexError) as error:
        tally.broken += 1
        _note(tally, asked, f"broken: {error}", received)
        return
    due = asked.text
    tally.characters += len(text)
    if text != due or finish != "stop":
        tally.altered += 1
        _note(tally, asked, f"altered: {text!r} {finish}, due {due!r}", received)
    elif len(ids) != 1 or usage["completion_tokens"] != len(tokens(due)) + 1:
        # The token that ends an answer is counted, though none of it is seen.
        tally.miscounted += 1
        _note(tally, asked, f"miscounted: {usage} {ids}, due {len(tokens(due)) + 1}", received)
    if asked.stream:
        tally.first_token_s.append(received.first_s)
        tally.gap_s.append(received.gap_s)


def _read_stream(body: bytes) -> tuple[str, str, dict[str, int], set[str]]:
    text, finish = "", ""
    usage: dict[str, int] = {}
    ids: set[str] = set()
    lines = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")]
    if not lines or lines[-1] != b"[DONE]":
        raise ValueError("no [DONE]")
    for line in lines[:-1]:
        event: Any = msgspec.json.decode(line)
        if "error" in event:
            raise ValueError(event["error"]["message"])
        ids.add(event["id"])
        usage = event.get("usage") or usage
        for choice in event["choices"]:
            text += choice["delta"].get("content") or ""
            finish = choice["finish_reason"] or finish
    return text, finish, usage, ids


def _read_whole(body: bytes) -> tuple[str, str, dict[str, int], set[str]]:
    answer: Any = msgspec.json.decode(body)
    choice = answer["choices"][0]
    return choice["message"]["content"], choice["finish_reason"], answer["usage"], {answer["id"]}


def _note(tally: Tally, asked: Asked, what: str, received: Received) -> None:
    tally.codes[what.partition(":")[0]] += 1
    if len(tally.examples) < EXAMPLES_MAX:
        seen = received.head.split(b"\r\n", 1)[0] + b" " + received.body[-300:]
        tally.examples.append(f"{what} | {asked.prompt} | {seen!r}")


async def client(port: int, seed: str, until_s: float, tally: Tally) -> None:
    """Ask until the time is over; the last request is waited for."""
    chance = random.Random(seed)
    await asyncio.sleep(chance.uniform(0, 2))  # or all would come in step
    while time.monotonic() < until_s:
        asked = ask_of(chance)
        received = Received()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await _fetch(port, asked.body(), received)
        except (OSError, TimeoutError) as error:
            tally.codes[type(error).__name__] += 1
            received.head = received.head or b"none 0 "
        judge(asked, received, tally)


async def _fetch(port: int, body: bytes, received: Received) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer %b\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
            % (KEY.encode(), len(body), body)
        )
        asked_s = last_s = time.monotonic()
        received.head = await reader.readuntil(b"\r\n\r\n")
        parts = []
        while data := await reader.read(65_536):
            now_s = time.monotonic()
            if b"data: " in data:
                if not received.first_s:
                    received.first_s = now_s - asked_s
                else:
                    received.gap_s = max(received.gap_s, now_s - last_s)
                last_s = now_s
            parts.append(data)
        received.body = _unchunked(b"".join(parts), received.head)
    except asyncio.IncompleteReadError as cut:
        received.head = cut.partial or b"none 0 "
    finally:
        writer.close()


def _unchunked(body: bytes, head: bytes) -> bytes:
    """Return the body without its framing; what is cut off stays cut off."""
    if b"transfer-encoding: chunked" not in head.lower():
        return body
    parts, at = [], 0
    while (end := body.find(b"\r\n", at)) >= 0:
        size = int(body[at:end], 16)
        parts.append(body[end + 2 : end + 2 + size])
        at = end + 4 + size
    return b"".join(parts)
