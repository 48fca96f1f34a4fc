"""The acceptance, step by step: it asks, and leaves judging to `answers` and `fleet`.

The steps are those of a first day in production: alive, closed to strangers, the aliases there,
each of them answering whole and streamed, the load on every backend, nothing left behind.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec

from arriero.app.client import Endpoint, Exchange
from arriero.app.smoke import answers, fleet
from arriero.app.smoke.finding import Finding, unknown
from arriero.base.clock import Clock
from arriero.wire.status_page import StatusPage

STATUS_PATH = "/arriero/status"
CHAT_PATH = "/v1/chat/completions"
MODELS_PATH = "/v1/models"
NO_SUCH_MODEL = "arriero-smoke-no-such-model"
QUESTION = "Say hello in one word."
ANSWER_TOKENS_MAX = 16
FAN_OUT_TOKENS_MAX = 8
PROBE_TIMEOUT_S = 10.0
SETTLE_S = 5.0
SETTLE_STEP_S = 0.1

# Who names an embedding model without one of these can say so with --embedding.
EMBEDDING_NAMES = ("embed", "minilm", "bge-", "e5-")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to accept. `aliases` empty means all that are listed."""

    url: str
    key: str
    aliases: tuple[str, ...] = ()
    embeddings: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    requests: int = 10
    timeout_s: float = 600.0
    public_metrics: bool = False


class Run:
    """One acceptance: what was asked so far, and the pages that later steps compare."""

    __slots__ = ("_clock", "_endpoint", "_lock", "exchanges", "page", "plan")

    def __init__(self, plan: Plan, clock: Clock) -> None:
        self.plan = plan
        self.exchanges: list[Exchange] = []
        self.page: StatusPage | None = None
        self._clock = clock
        self._endpoint = Endpoint(plan.url, clock)
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The gateway's address as it is used, without credentials."""
        return self._endpoint.url

    def findings(self) -> Iterator[Finding]:
        """Do all the steps, one finding after the other."""
        alive = self._get("/health/liveliness")
        if alive.error:
            yield unknown(
                "liveliness", f"{self.url}: {alive.error}", "is the gateway running there?"
            )
            return
        yield self._alive(alive)
        yield self._ready()
        yield from self._closed()
        listed = self._get(MODELS_PATH, key=self.plan.key)
        yield answers.models("models", listed, self.plan.aliases)
        aliases = self.plan.aliases or tuple(answers.listed(listed))
        self.page = self._status()
        for alias in aliases:
            yield from self._alias(alias)
        yield self._unknown_model()
        chats = [alias for alias in aliases if not self._embeds(alias)]
        if chats:
            yield from self._fan_out(self._widest(chats))
        # Now, as a backend that is back stays ejected until a request went there.
        yield fleet.states("backends", self.page)
        yield answers.metrics("metrics", self._get("/metrics"), public=self.plan.public_metrics)

    def _alive(self, exchange: Exchange) -> Finding:
        return answers.expected(
            "liveliness",
            exchange,
            answers.OK,
            "200 without a key",
            "is this the gateway's address?",
        )

    def _ready(self) -> Finding:
        return answers.expected(
            "readiness",
            self._get("/health/readiness"),
            answers.OK,
            "200 without a key",
            "no alias can be routed; arriero status tells why",
        )

    def _closed(self) -> Iterator[Finding]:
        yield answers.refused("no key", self._get(MODELS_PATH), answers.UNAUTHORIZED)
        wrong = self._get(MODELS_PATH, key="sk-arriero-smoke-wrong-key")
        yield answers.refused("wrong key", wrong, answers.UNAUTHORIZED)

    def _alias(self, alias: str) -> Iterator[Finding]:
        if self._embeds(alias):
            body = {"model": alias, "input": "ping"}
            answer = self._post("/v1/embeddings", body)
            yield answers.embeddings(f"embedding {alias}", answer, alias)
            return
        yield answers.chat(f"chat {alias}", self._post(CHAT_PATH, chat_body(alias)), alias)
        streamed = chat_body(alias) | {"stream": True, "stream_options": {"include_usage": True}}
        yield answers.stream(f"stream {alias}", self._post(CHAT_PATH, streamed), alias)

    def _unknown_model(self) -> Finding:
        answer = self._post(CHAT_PATH, chat_body(NO_SUCH_MODEL))
        return answers.refused("unknown model", answer, answers.NOT_FOUND)

    def _fan_out(self, alias: str) -> Iterator[Finding]:
        before, residents = self._status(), self._residents()
        exchanges = self._at_once(alias)
        after = self._settled()
        yield fleet.answered(f"overlap {alias}", exchanges)
        yield fleet.fan_out(f"fan-out {alias}", before, after, alias)
        for url, old, new in zip(self.plan.backends, residents, self._residents(), strict=True):
            yield fleet.resident("backend's word", url, old, new)
        yield fleet.idle("in flight after", before, after)
        self.page = after or self.page

    def _at_once(self, alias: str) -> list[Exchange]:
        """Send many requests at one moment, each a conversation of its own.

        With one and the same text, a gateway may rightly keep all on the host that has read it.
        """
        count = self.plan.requests
        start = threading.Barrier(count)

        def one(number: int) -> Exchange:
            start.wait()
            question = f"{number + 1}. {QUESTION}"
            return self._post(CHAT_PATH, chat_body(alias, FAN_OUT_TOKENS_MAX, question))

        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(one, range(count)))

    def _settled(self) -> StatusPage | None:
        """Return the status once nothing is in flight, or as it is after `SETTLE_S`."""
        deadline_s = self._clock.now_s() + SETTLE_S
        page = self._status()
        while page and any(b.in_flight for b in page.backends):
            if self._clock.now_s() >= deadline_s:
                break
            threading.Event().wait(SETTLE_STEP_S)
            page = self._status()
        return page

    def _residents(self) -> list[Exchange]:
        return [
            self._keep(Endpoint(url, self._clock).call("GET", "/api/ps", timeout_s=PROBE_TIMEOUT_S))
            for url in self.plan.backends
        ]

    def _status(self) -> StatusPage | None:
        return fleet.status_page(self._get(STATUS_PATH, key=self.plan.key))

    def _embeds(self, alias: str) -> bool:
        if alias in self.plan.embeddings:
            return True
        page = self.page
        told = next((m.mode for m in page.models if m.name == alias), None) if page else None
        if told:
            return told == "embedding"
        names = (
            [alias, *(target.model for target in fleet.targets(page, alias))] if page else [alias]
        )
        return any(part in name.lower() for name in names for part in EMBEDDING_NAMES)

    def _widest(self, aliases: list[str]) -> str:
        """Return the alias that most backends serve: the one fan-out can say most about."""
        page = self.page
        return max(aliases, key=lambda alias: len(fleet.available(page, alias)) if page else 0)

    def _get(self, path: str, key: str | None = None) -> Exchange:
        return self._keep(self._endpoint.call("GET", path, key=key, timeout_s=PROBE_TIMEOUT_S))

    def _post(self, path: str, body: object) -> Exchange:
        return self._keep(
            self._endpoint.call(
                "POST", path, key=self.plan.key, body=body, timeout_s=self.plan.timeout_s
            )
        )

    def _keep(self, exchange: Exchange) -> Exchange:
        with self._lock:
            self.exchanges.append(exchange)
        return exchange


def chat_body(
    alias: str, tokens_max: int = ANSWER_TOKENS_MAX, question: str = QUESTION
) -> dict[str, object]:
    """Return a short question, as small as a person's first try."""
    return {
        "model": alias,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": tokens_max,
    }


def accept(
    plan: Plan, clock: Clock, progress: Callable[[Finding], None]
) -> tuple[Run, list[Finding]]:
    """Do the whole acceptance; `progress` hears of each finding as it is made."""
    run = Run(plan, clock)
    found = []
    for finding in run.findings():
        found.append(finding)
        progress(finding)
    return run, found
