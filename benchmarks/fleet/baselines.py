"""What others do, as their sources say: each sends at once, and requests queue inside the hosts.

Facts: `LiteLlmLeastBusy` is LiteLLM 1.106's least-busy with its ties and leaks; `herd` scores like
ollama-herd 0.11.4 (fleet_manager/server/scorer.py); `chwbl` is KubeAI's prefix hash, consistent
hashing with bounded loads (arXiv 1608.01350).
"""

from bisect import bisect
from collections.abc import Callable
from hashlib import blake2b
from random import Random
from typing import Final

from benchmarks.fleet.engine import Engine, Request
from benchmarks.fleet.workload import total_tokens

RETRIES: Final = 2  # LiteLLM's and arriero's default

Choose = Callable[[Request, float], int]


class Direct:
    """A policy without a queue of its own: choose, send, and choose again when that failed."""

    retries = RETRIES

    def __init__(self, engine: Engine, seed: int) -> None:
        self.engine = engine
        self.random = Random(seed)
        self.in_flight = [0] * len(engine.hosts)
        self.hosts = range(len(engine.hosts))

    def choose(self, request: Request, now_s: float) -> int:
        """Return the host's number."""
        raise NotImplementedError

    def arrive(self, request: Request, now_s: float) -> None:
        """Send it."""
        while True:
            host = self.choose(request, now_s)
            self.in_flight[host] += 1
            if self.engine.send(request, host, now_s):
                return
            self.uncount(request)
            if request.attempts > self.retries:
                self.engine.refuse(request, "failed", now_s)
                return

    def uncount(self, request: Request) -> None:
        """Take a failed attempt off again."""
        self.in_flight[request.host] -= 1

    def ended(self, request: Request, now_s: float) -> None:  # noqa: ARG002 - one signature
        """Count it."""
        self.in_flight[request.host] -= 1

    def lost(self, request: Request, now_s: float) -> None:
        """Try elsewhere."""
        self.uncount(request)
        assert request.job is not None
        # Nothing can be asked again once the user has seen a token.
        if request.job.first_s >= 0 or request.attempts > self.retries:
            self.engine.refuse(request, "failed", now_s)
        else:
            self.arrive(request, now_s)

    def loaded(self, host: int, now_s: float) -> None:
        """Not be told."""

    def sweep(self, now_s: float) -> None:
        """Do nothing."""

    def look(self, now_s: float) -> None:
        """Look at nothing."""


class RandomChoice(Direct):
    """LiteLLM's default simple-shuffle without weights: uniform chance, two retries."""

    def choose(self, request: Request, now_s: float) -> int:  # noqa: ARG002 - one signature
        """Return any host."""
        return self.random.randrange(len(self.in_flight))


class OpenWebUi(RandomChoice):
    """Open WebUI's own: `random.choice` of the URLs that list the model; no retry (research A5)."""

    retries = 0


class RoundRobin(Direct):
    """One after the other."""

    _turn = -1

    def choose(self, request: Request, now_s: float) -> int:  # noqa: ARG002 - one signature
        """Return the next host."""
        self._turn += 1
        return self._turn % len(self.in_flight)


class LiteLlmLeastBusy(Direct):
    """LiteLLM's least-busy: the fewest requests of this model, ties to the first in the file.

    It counts for each pair of model and host, so a host that is busy with another model looks
    idle; and of several failed attempts of one request only one is taken off again (research,
    litellm 3, faults 1, 3, 4, 5).
    """

    def __init__(self, engine: Engine, seed: int) -> None:
        super().__init__(engine, seed)
        self._counts = {model.name: [0] * len(engine.hosts) for model in engine.trace.models}

    def choose(self, request: Request, now_s: float) -> int:  # noqa: ARG002 - one signature
        """Return the first of the least counts."""
        counts = self._counts[request.turn.model]
        host = min(self.hosts, key=counts.__getitem__)
        counts[host] += 1
        return host

    def uncount(self, request: Request) -> None:
        """Take only the first failed attempt off again."""
        super().uncount(request)
        if request.attempts == 1:
            self._counts[request.turn.model][request.host] -= 1

    def ended(self, request: Request, now_s: float) -> None:
        """Count it."""
        super().ended(request, now_s)
        self._counts[request.turn.model][request.host] -= 1


class BoundedHashing(Direct):
    """KubeAI's PrefixHash: consistent hashing of the prompt's beginning, with bounded loads.

    The key is the first user message's first 100 characters (KubeAI's `prefixCharLength`), which
    keeps the turns of a conversation together. A host may have 125 % of the mean load. 256 points
    on the ring for each host.
    """

    points = 256
    bound = 1.25

    def __init__(self, engine: Engine, seed: int) -> None:
        super().__init__(engine, seed)
        ring = [
            (_hash(f"{host}/{point}"), host) for host in self.hosts for point in range(self.points)
        ]
        self._ring = sorted(ring)

    def choose(self, request: Request, now_s: float) -> int:  # noqa: ARG002 - one signature
        """Return the first host from the key's place on that has room."""
        turn = request.turn
        user = next(segment for segment in turn.prompt if segment.role == "user")
        place = bisect(self._ring, (_hash(f"{turn.model}/{user.number}"), 0))
        limit = self.bound * (sum(self.in_flight) + 1) / len(self.in_flight)
        tried = 0
        for step in range(len(self._ring)):
            host = self._ring[(place + step) % len(self._ring)][1]
            if self.in_flight[host] + 1 <= max(limit, 1) and not tried >> host & 1:
                tried |= 1 << host
                if request.attempts and host == request.host:
                    continue  # it has just failed there
                return host
        return min(self.hosts, key=self.in_flight.__getitem__)


class HerdLike(Direct):
    """The scores of ollama-herd that differ between these hosts; its agents' view is 5 s old.

    Hot +50, warm +30 (unloaded within 30 minutes), cold +10; fits +20 when loaded, else by the
    ratio of free memory; -6 for each request in the node's queue for the model, up to -30; -1 for
    each 10 s of expected wait; +20 for a conversation's last node and else +10 for the same system
    prompt of 2,000 tokens or more, both decaying with its queue. The session is known here, which
    favours it: behind Open WebUI all users are one address and one session to herd.
    """

    def __init__(self, engine: Engine, seed: int) -> None:
        super().__init__(engine, seed)
        self._depths = {model.name: [0] * len(engine.hosts) for model in engine.trace.models}
        self._loaded: list[set[str]] = [set() for _ in engine.hosts]
        self._unloaded_s: dict[tuple[int, str], float] = {}
        self._free = [0.0] * len(engine.hosts)
        self._down = [False] * len(engine.hosts)
        self._pins: dict[str, int] = {}
        self._last_s: dict[tuple[int, str], list[float]] = {}

    def choose(self, request: Request, now_s: float) -> int:
        """Return the host with the highest score, the first of equals."""
        turn = request.turn
        up = [host for host in self.hosts if not self._down[host]] or list(self.hosts)
        others = [host for host in up if host != request.host or not request.attempts]
        host = max(others or up, key=lambda host: self._score(host, request, now_s))
        self._depths[turn.model][host] += 1
        for key in _pin_keys(request):
            self._pins[key] = host
        return host

    def _score(self, host: int, request: Request, now_s: float) -> float:
        model = request.turn.model
        depth = self._depths[model][host]
        score = self._memory_score(host, model, now_s) - min(30.0, 6.0 * depth)
        samples = self._last_s.get((host, model))
        if depth and samples:
            score -= min(25.0, depth * sorted(samples)[len(samples) * 3 // 4] / 10)
        for key, bonus in zip(_pin_keys(request), (20.0, 10.0), strict=False):
            if self._pins.get(key) == host:
                return score + bonus / (1 + depth / 2)
        return score

    def _memory_score(self, host: int, model: str, now_s: float) -> float:
        if model in self._loaded[host]:
            return 50.0 + 20.0
        gone_s = self._unloaded_s.get((host, model))
        thermal = 30.0 if gone_s is not None and now_s - gone_s < 1800 else 10.0
        ratio = self._free[host] / self.engine.hosts[host].models[model].size_bytes
        return thermal + next(
            (20.0, 15.0, 8.0, 3.0)[place]
            for place, least in enumerate((2.0, 1.5, 1.2, -1e9))
            if ratio > least
        )

    def ended(self, request: Request, now_s: float) -> None:
        """Count it, and remember how long it took."""
        super().ended(request, now_s)
        self._depths[request.turn.model][request.host] -= 1
        assert request.job is not None
        samples = self._last_s.setdefault((request.host, request.turn.model), [])
        samples.append(now_s - request.job.sent_s)
        del samples[:-50]

    def uncount(self, request: Request) -> None:
        """Count it."""
        super().uncount(request)
        self._depths[request.turn.model][request.host] -= 1

    def look(self, now_s: float) -> None:
        """See what is loaded where."""
        for number, host in enumerate(self.engine.hosts):
            loaded = set(host.runners)
            for model in self._loaded[number] - loaded:
                self._unloaded_s[number, model] = now_s
            self._loaded[number] = loaded
            self._free[number] = host.free_bytes
            self._down[number] = host.down


def _pin_keys(request: Request) -> list[str]:
    turn = request.turn
    keys = [f"{turn.model}/{turn.session}"]
    first = turn.prompt[0]
    if first.role == "system" and total_tokens((first,)) >= 2000:
        keys.append(f"{turn.model}/{first.number}")
    return keys


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
