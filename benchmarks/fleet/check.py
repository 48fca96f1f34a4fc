"""Play one small scenario twice: on real servers behind the real gateway, and in the simulator.

The servers are those of the embedded fleet (`arriero.embedded`: SmolLM2-135M on numpy), one request
at a time each. Some conversations run against `arriero serve` with one strategy, and the same ones,
with the token counts and the answers' lengths that were really seen, in the simulator. How fast the
servers are is measured with all of them at work, as they share this machine's cores. Pauses are in
proportion to the time of a request, so that the load is the same on any machine.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit

from arriero.config.settings import Strategy
from arriero.embedded.cache import SEQUENCES_MAX
from benchmarks.fleet.engine import Engine
from benchmarks.fleet.figures import percentile
from benchmarks.fleet.ours import Gateway
from benchmarks.fleet.specs import HostSpec, ModelSpec
from benchmarks.fleet.workload import Segment, Session, Trace, Turn
from benchmarks.ports import free_ports

MODEL: Final = "smollm2:135m"
KEY: Final = "check-check"
STRATEGIES: Final[tuple[Strategy, ...]] = ("adaptive", "round-robin")
SESSIONS: Final = 6
SYSTEM_WORDS: Final = 260
EVERY: Final = 1.5  # requests' times between two conversations' beginnings
PAUSE: Final = 1.0  # requests' times between an answer and the next turn
TURNS: Final = 3
ANSWER_TOKENS_MAX: Final = 16
CONTEXT: Final = 2048
# The embedded servers keep 4,096 tokens of conversations (embedded/engine.py, POOL_TOKENS_MAX).
CACHE_TOKENS: Final = 4096
READY_S: Final = 60.0

Words = Callable[[int], str]


@dataclass
class Said:
    """One turn as it really went."""

    messages: list[dict[str, str]]
    sent_s: float
    gap_s: float
    ttft_s: float = 0.0
    end_s: float = 0.0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    answer: str = ""


@dataclass
class Talk:
    """One conversation as it really went."""

    start_s: float
    opening: str
    turns: list[Said] = field(default_factory=list)


# -- the real thing


@contextmanager
def servers(count: int) -> Iterator[list[str]]:
    """Start embedded servers; yield their addresses."""
    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="arriero-check-"))
        environment = {**os.environ, "XDG_CACHE_HOME": home}
        command = [sys.executable, "-m", "arriero.embedded", "--parent-pid", str(os.getpid())]
        urls = []
        for _ in range(count):
            process = stack.enter_context(
                subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
            )
            stack.callback(process.terminate)
            assert process.stdout is not None
            word, _, url = process.stdout.readline().strip().partition(" ")
            if word != "ready":
                raise RuntimeError("an embedded server did not start: is the extra installed?")
            urls.append(url)
        yield urls


@contextmanager
def gateway(urls: Sequence[str], strategy: Strategy) -> Iterator[int]:
    """Start `arriero serve` over the servers; yield its port."""
    port = free_ports(1)[0]
    backends = {f"s{number}": {"url": url, "slots": 1} for number, url in enumerate(urls)}
    config = {
        "backends": backends,
        "models": [
            {"name": "chat", "model": MODEL, "backends": list(backends), "context": CONTEXT}
        ],
        "routing": {"strategy": strategy, "probe_interval_s": 3600},
        "server": {"port": port},
        "access": {"master_key": KEY},
        "log": {"access": "off", "level": "error"},
    }
    with tempfile.TemporaryDirectory(prefix="arriero-check-") as directory:
        path = Path(directory, "check.yaml")
        path.write_text(json.dumps(config))
        command = [sys.executable, "-m", "arriero", "serve", "--config", str(path)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                _wait_ready(port, process)
                yield port
            finally:
                process.terminate()


def _wait_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    began = time.monotonic()
    while time.monotonic() - began < READY_S and process.poll() is None:
        try:
            connection = HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health/readiness")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise RuntimeError("the gateway did not become ready")


def speeds(urls: Sequence[str], seed: int) -> tuple[float, float]:
    """Return prompt and answer tokens a second of a server while all of them are at work.

    Another seed makes other prompts, which are in no cache yet.
    """
    found: list[tuple[float, float]] = []
    words = words_of(Random(seed))

    def ask(url: str) -> None:
        for _ in range(2):
            messages = [{"role": "user", "content": words(220)}]
            options = {"temperature": 0, "num_predict": ANSWER_TOKENS_MAX, "num_ctx": CONTEXT}
            body = {"model": MODEL, "messages": messages, "stream": False, "options": options}
            connection = HTTPConnection(urlsplit(url).netloc, timeout=120)
            connection.request("POST", "/api/chat", json.dumps(body))
            told = json.loads(connection.getresponse().read())
            connection.close()
            prompt = told["prompt_eval_count"] / (told["prompt_eval_duration"] / 1e9)
            answer = told["eval_count"] / (told["eval_duration"] / 1e9)
            found.append((prompt, answer))

    _together([partial(ask, url) for url in urls])
    return statistics.median(one for one, _ in found), statistics.median(one for _, one in found)


def words_of(chance: Random) -> Words:
    """Return a maker of texts that have nothing in common."""
    stock = [
        "mule",
        "road",
        "river",
        "stone",
        "bread",
        "night",
        "morning",
        "salt",
        "wool",
        "bell",
        "hill",
        "rain",
        "dust",
    ]
    return lambda count: " ".join(chance.choice(stock) for _ in range(count))


def talks_of(seed: int, request_s: float) -> list[Talk]:
    """Return the conversations to have: two applications' long system messages, then questions.

    `request_s` is about how long a request takes.
    """
    chance = Random(seed)
    words = words_of(chance)
    systems = [words(SYSTEM_WORDS), words(SYSTEM_WORDS)]
    now_s, talks = 0.0, []
    for number in range(SESSIONS):
        now_s += chance.expovariate(1 / (EVERY * request_s))
        talks.append(Talk(now_s, systems[number % 2]))
    return talks


def have(talks: Sequence[Talk], port: int, seed: int, request_s: float) -> None:
    """Have the conversations, each in a thread of its own, and note how they went."""
    began = time.monotonic()

    def talk_about(talk: Talk, number: int) -> None:
        chance = Random(seed * 1000 + number)
        words = words_of(chance)
        messages = [{"role": "system", "content": talk.opening}]
        for place in range(TURNS):
            gap_s = 0.0 if not place else PAUSE * request_s * chance.uniform(0.5, 1.5)
            wait_s = talk.start_s - (time.monotonic() - began) if not place else gap_s
            time.sleep(max(wait_s, 0.0))
            messages = [*messages, {"role": "user", "content": words(25)}]
            said = Said(messages, time.monotonic() - began, gap_s)
            _ask(port, said)
            talk.turns.append(said)
            messages = [*messages, {"role": "assistant", "content": said.answer}]

    _together([partial(talk_about, talk, at) for at, talk in enumerate(talks)])


def _ask(port: int, said: Said) -> None:
    body = {
        "model": "chat",
        "messages": said.messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": ANSWER_TOKENS_MAX,
        "temperature": 0,
    }
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    connection = HTTPConnection("127.0.0.1", port, timeout=300)
    began = time.monotonic()
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    response = connection.getresponse()
    for line in iter(response.readline, b""):
        if line.startswith(b"data: {"):
            _take(json.loads(line[6:]), said, time.monotonic() - began)
    said.end_s = time.monotonic() - began
    connection.close()


def _take(event: dict[str, Any], said: Said, passed_s: float) -> None:
    for choice in event.get("choices", ()):
        text = choice["delta"].get("content")
        if text:
            said.ttft_s = said.ttft_s or passed_s
            said.answer += text
    if event.get("usage"):
        said.prompt_tokens = event["usage"]["prompt_tokens"]
        said.answer_tokens = event["usage"]["completion_tokens"]


def _together(acts: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=act) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# -- the simulation of it


def trace_of(talks: Sequence[Talk], count: int, prefill_tps: float, decode_tps: float) -> Trace:
    """Return what really happened as a trace: the same prompts, answers, pauses and starts."""
    numbers = iter(range(1_000_000))
    system_tokens = {
        opening: min(talk.turns[0].prompt_tokens for talk in talks if talk.opening == opening) - 40
        for opening in {talk.opening for talk in talks}
    }
    systems = {
        opening: Segment(next(numbers), "system", tokens)
        for opening, tokens in sorted(system_tokens.items())
    }
    sessions = []
    for at, talk in enumerate(talks):
        prompt: tuple[Segment, ...] = (systems[talk.opening],)
        turns = []
        for said in talk.turns:
            known = sum(segment.tokens for segment in prompt)
            prompt = (*prompt, Segment(next(numbers), "user", max(said.prompt_tokens - known, 1)))
            answer = Segment(next(numbers), "assistant", max(said.answer_tokens, 1))
            turns.append(Turn(MODEL, prompt, answer, f"talk-{at}", "one", said.gap_s))
            prompt = (*prompt, answer)
        sessions.append(Session(talk.start_s, turns))
    hosts = tuple(
        HostSpec(f"s{number}", prefill_tps, decode_tps, pool=SEQUENCES_MAX)
        for number in range(count)
    )
    return Trace("check", hosts, (ModelSpec(MODEL, cache_tokens=CACHE_TOKENS),), sessions)


def simulated(trace: Trace, strategy: Strategy) -> list[float]:
    """Return the TTFTs of the simulation, in the order of sessions and turns."""
    engine = Engine(trace)
    requests = engine.run(Gateway(engine, strategy))
    place = {id(session): number for number, session in enumerate(trace.sessions)}
    ordered = sorted(requests, key=lambda one: (place[id(one.session)], one.place))
    return [one.ttft_s for one in ordered]


@dataclass(frozen=True)
class Compared:
    """The TTFTs of one strategy, measured and simulated."""

    real: list[float]
    model: list[float]

    @property
    def means(self) -> tuple[float, float]:
        """Return both means."""
        return statistics.mean(self.real), statistics.mean(self.model)

    def row(self, strategy: str) -> str:
        """Return the table's line."""
        real, model = self.means
        tails = [percentile(sorted(values), 0.95) for values in (self.real, self.model)]
        return (
            f"| {strategy} | {len(self.real)} | {real:.2f} s | {model:.2f} s "
            f"| {model / real - 1:+.0%} | {tails[0]:.2f} s | {tails[1]:.2f} s |"
        )


def compared(urls: Sequence[str], strategy: Strategy, seed: int) -> Compared:
    """Have the conversations with one strategy, really and in the simulator."""
    before = speeds(urls, seed * 100)
    request_s = SYSTEM_WORDS / before[0] + ANSWER_TOKENS_MAX / before[1]
    talks = talks_of(7, request_s)
    for talk in talks:  # other words for each strategy, or it would find them in the caches
        talk.opening = f"{seed} {talk.opening}"
    with gateway(urls, strategy) as port:
        have(talks, port, seed, request_s)
    # Other work on this machine slows reading and writing alike, and changes by the minute: how
    # fast answers were written tells how fast the servers were during the run.
    written = [
        (said.answer_tokens - 1, said.end_s - said.ttft_s) for t in talks for said in t.turns
    ]
    decode_tps = sum(tokens for tokens, _ in written) / sum(seconds for _, seconds in written)
    prefill_tps = before[0] / before[1] * decode_tps
    print(
        f"{strategy}: {prefill_tps:.0f} prompt, {decode_tps:.1f} answer tokens/s", file=sys.stderr
    )
    real = [said.ttft_s for talk in talks for said in talk.turns]
    return Compared(real, simulated(trace_of(talks, len(urls), prefill_tps, decode_tps), strategy))


def main(count: int) -> int:
    """Print both and how far they are apart; 1 when the strategies come out in another order."""
    print("| strategy | requests | TTFT mean, real | simulated | off by | p95, real | simulated |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    means = []
    # Only an exception runs the clean-up that ends the servers, so a signal becomes one.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with servers(count) as urls:
        for seed, strategy in enumerate(STRATEGIES, 1):
            both = compared(urls, strategy, seed)
            print(both.row(strategy), flush=True)
            means.append(both.means)
    (real, model), (other_real, other_model) = means
    return 0 if (real < other_real) == (model < other_model) else 1
