"""The traces: who asks for what, when. Every figure says where it comes from.

A trace is made for a load: the share of the hosts' time that its requests would take if nothing of
any prompt were ever cached. It is the harder reading of "80 % load" for whoever uses caches badly,
and the kinder one for baselines, which are then not driven into saturation.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from arriero.wire.canonical import Role
from benchmarks.fleet.specs import RTX_3090, HostSpec, ModelSpec, fleet_of, mixed_fleet
from benchmarks.fleet.workload import Outage, Segment, Session, Trace, Turn, cold_seconds

# ShareGPT's means as the vLLM paper counts them (arXiv 2309.06180, figure 11).
USER_TOKENS: Final = 161
ANSWER_TOKENS: Final = 338
# 660,000 turns in 142,808 conversations (ShareChat, arXiv 2512.17843).
CHAT_TURNS: Final = 4.6
CHAT_MODEL: Final = ModelSpec("llama3:8b")
CODE_MODEL: Final = ModelSpec("coder:14b", 10e9, 43_690)


class Maker:
    """Draws the pieces of a trace from one stream of chance."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self._numbers = 0

    def segment(self, role: Role, tokens: float) -> Segment:
        """Return a new message of at least 8 tokens."""
        self._numbers += 1
        return Segment(self._numbers, role, max(8, round(tokens)))

    def about(self, mean: float, spread: float = 0.7) -> float:
        """Draw from a lognormal distribution; lengths of texts and pauses are skewed like that."""
        return self.random.lognormvariate(math.log(mean) - spread * spread / 2, spread)

    def count(self, mean: float) -> int:
        """Draw a number of turns, at least 1: geometric, so that a few go on for long."""
        return 1 + int(self.random.expovariate(1) / -math.log(1 - 1 / mean))

    def popular(self, count: int) -> int:
        """Draw one of so many by Zipf's law."""
        weights = [1 / (rank + 1) for rank in range(count)]
        return self.random.choices(range(count), weights)[0]


@dataclass(frozen=True)
class Dialogue:
    """What the turns of a kind of conversation are like; means."""

    said_tokens: float
    answer_tokens: float
    turns: float
    pause_s: float
    said_by: Role = "user"


CHAT: Final = Dialogue(USER_TOKENS, ANSWER_TOKENS, CHAT_TURNS, pause_s=45.0)
# A coding agent: tool results come back, and the next step follows at once. Claude Code's turns
# were 27k tokens long in Ollama's reports (research A2); 14k of them are its system prompt.
AGENT: Final = Dialogue(900, 160, 16, pause_s=3.0, said_by="tool")
SINGLE: Final = Dialogue(USER_TOKENS, ANSWER_TOKENS, 1, pause_s=1.0)


def converse(
    make: Maker, model: str, opening: Sequence[Segment], kind: Dialogue, names: tuple[str, str]
) -> list[Turn]:
    """Return the turns of one conversation: each repeats all that was said before."""
    session, user = names
    prompt = (*opening, make.segment("user", make.about(USER_TOKENS)))
    turns = []
    for number in range(make.count(kind.turns) if kind.turns > 1 else 1):
        answer = make.segment("assistant", make.about(kind.answer_tokens))
        gap_s = make.about(kind.pause_s, 1.0) if number else 0.0
        turns.append(Turn(model, prompt, answer, session, user, gap_s))
        prompt = (*prompt, answer, make.segment(kind.said_by, make.about(kind.said_tokens)))
    return turns


def timed(
    make: Maker,
    conversations: Sequence[list[Turn]],
    load: float,
    hosts: Sequence[HostSpec],
    models: Sequence[ModelSpec],
) -> list[Session]:
    """Let conversations begin at random (a Poisson process) at the rate that makes the load."""
    by_name = {model.name: model for model in models}
    # A host's share of the load is by its speed: n hosts do n / mean(1 / work) a second.
    work_s = [
        sum(
            cold_seconds(each, host, by_name[each.model])
            for turns in conversations
            for turn in turns
            for each in turn.chain
        )
        for host in hosts
    ]
    per_second = sum(1 / seconds for seconds in work_s) * len(conversations) * load
    sessions, now_s = [], 0.0
    for turns in conversations:
        now_s += make.random.expovariate(per_second)
        sessions.append(Session(now_s, turns))
    return sessions


@dataclass(frozen=True)
class Manner:
    """What may be otherwise with the chats.

    System messages have 3,000 tokens on average: llm-d's benchmark takes 6,000 for 150 customers
    (research 2.2); with tools, rules and knowledge, half of it is an ordinary assistant.
    """

    system_tokens: float = 3000
    turns: float = CHAT_TURNS
    applications: int = 24
    host: HostSpec = RTX_3090
    tasks: bool = False


USUAL: Final = Manner()
NO_RAM_CACHE: Final = replace(RTX_3090, ram_cache=False)
FOUR_SLOTS: Final = replace(RTX_3090, slots=4)


def chat(seed: int, load: float = 0.8, size: int = 420, manner: Manner = USUAL) -> Trace:
    """Multi-turn chats of 24 applications, each with a long system message."""
    make, hosts = Maker(seed), fleet_of(8, manner.host)
    conversations = _chats(make, size, (CHAT_MODEL.name,), manner)
    return Trace(
        "chat", hosts, (CHAT_MODEL,), timed(make, conversations, load, hosts, (CHAT_MODEL,))
    )


def _chats(
    make: Maker, size: int, models: Sequence[str], manner: Manner = USUAL
) -> list[list[Turn]]:
    systems = [
        make.segment("system", make.about(manner.system_tokens, 0.5))
        for _ in range(manner.applications)
    ]
    kind = replace(CHAT, turns=manner.turns)
    conversations = []
    for number in range(size):
        application = make.popular(manner.applications)
        model = models[make.popular(len(models))]
        names = f"chat-{number}", f"user-{make.random.randrange(64)}"
        conversations.append(converse(make, model, (systems[application],), kind, names))
    if manner.tasks:
        _add_tasks(make, conversations)
    return conversations


# What Open WebUI asks the same model by itself after an answer, one after the other: a template,
# then so many of the last messages as they are (open_webui/config.py, the DEFAULT_*_TEMPLATEs with
# {{MESSAGES:END:n}}; utils/middleware.py, background_tasks_handler). The lengths of the answers, a
# JSON object each, are guesses.
FOLLOW_UP: Final = (260, 6, 70)
TITLE: Final = (330, 2, 18)
TAGS: Final = (300, 6, 30)


def _add_tasks(make: Maker, conversations: Sequence[list[Turn]]) -> None:
    """Let each turn be followed by its tasks: title and tags come after the first one only."""
    templates = {kind: make.segment("user", kind[0]) for kind in (FOLLOW_UP, TITLE, TAGS)}
    for turns in conversations:
        for number, turn in enumerate(turns):
            last = turn
            for kind in (FOLLOW_UP,) if number else (FOLLOW_UP, TITLE, TAGS):
                _, messages, answer_tokens = kind
                said = (*turn.prompt[1:], turn.answer)[-messages:]
                quoted = make.segment("user", sum(segment.tokens for segment in said))
                answer = make.segment("assistant", make.about(answer_tokens, 0.4))
                prompt = (templates[kind], quoted)
                last.task = Turn(turn.model, prompt, answer, "", turn.user, background=True)
                last = last.task


def openwebui(seed: int, load: float = 0.8, size: int = 360) -> Trace:
    """The chats as Open WebUI has them: with titles, tags and follow-up questions."""
    return replace(chat(seed, load, size, Manner(tasks=True)), name="openwebui")


def agents(seed: int, load: float = 0.8, size: int = 90) -> Trace:
    """Coding agents: 14,000 tokens of system prompt and tools, then growing by every tool result.

    Everybody has the same system prompt and another repository, whose notes follow it.
    """
    make, hosts = Maker(seed), fleet_of(8)
    system = make.segment("system", 14_000)
    conversations = []
    for number in range(size):
        opening = (system, make.segment("user", make.about(2000)))
        names = f"agent-{number}", f"user-{number % 24}"
        conversations.append(converse(make, CODE_MODEL.name, opening, AGENT, names))
    return Trace(
        "agents", hosts, (CODE_MODEL,), timed(make, conversations, load, hosts, (CODE_MODEL,))
    )


def rag(seed: int, load: float = 0.8, size: int = 1400) -> Trace:
    """Questions about documents, in bursts: a short template, then 4,000 tokens nobody shares.

    Bursts of 1 to 24 at once: a form that is sent, a batch of tickets. There is next to nothing to
    reuse here, so this trace shows what looking for prefixes costs.
    """
    make, hosts = Maker(seed), fleet_of(8)
    template = make.segment("system", 400)
    conversations = []
    for number in range(size):
        opening = (template, make.segment("user", make.about(4000, 0.4)))
        names = f"rag-{number}", f"user-{number % 16}"
        conversations.append(converse(make, CHAT_MODEL.name, opening, SINGLE, names))
    sessions = timed(make, conversations, load, hosts, (CHAT_MODEL,))
    return Trace("rag", hosts, (CHAT_MODEL,), list(_in_bursts(make, sessions, 24)))


def _in_bursts(make: Maker, sessions: Sequence[Session], most: int) -> Iterator[Session]:
    """Let sessions in a row begin together with the last of them; the rate stays."""
    place = 0
    while place < len(sessions):
        burst = sessions[place : place + make.random.randint(1, most)]
        for session in burst:
            yield Session(burst[-1].start_s + make.random.random() * 0.2, session.turns)
        place += len(burst)


def models(seed: int, load: float = 0.6, size: int = 360) -> Trace:
    """Chats with five models, of which a host holds one or two at a time.

    60 % of the load, because loading takes its share and is not in the figure.
    """
    make, hosts = Maker(seed), fleet_of(8)
    sizes = {
        "llama3:8b": 4.9e9,
        "coder:14b": 10e9,
        "gemma:27b": 17e9,
        "qwen:32b": 20e9,
        "phi:4b": 3e9,
    }
    specs = tuple(
        ModelSpec(name, size_bytes, round(65_536 * 4.9e9 / size_bytes))
        for name, size_bytes in sizes.items()
    )
    conversations = _chats(make, size, tuple(sizes))
    return Trace("models", hosts, specs, timed(make, conversations, load, hosts, specs))


def mixed(seed: int, load: float = 0.8, size: int = 340) -> Trace:
    """The chats on eight hosts of very different speed."""
    make, hosts = Maker(seed), mixed_fleet()
    conversations = _chats(make, size, (CHAT_MODEL.name,))
    return Trace(
        "mixed", hosts, (CHAT_MODEL,), timed(make, conversations, load, hosts, (CHAT_MODEL,))
    )


def failures(seed: int, load: float = 0.6, size: int = 420) -> Trace:
    """The chats at 60 % load, while every minute or so a host dies and is away for 20 s."""
    make, hosts = Maker(seed), fleet_of(8)
    conversations = _chats(make, size, (CHAT_MODEL.name,))
    sessions = timed(make, conversations, load, hosts, (CHAT_MODEL,))
    outages, now_s = [], 30.0
    while now_s < sessions[-1].start_s:
        outages.append(Outage(make.random.randrange(len(hosts)), now_s, 20.0))
        now_s += 30.0 + make.random.expovariate(1 / 30.0)
    return Trace("failures", hosts, (CHAT_MODEL,), sessions, outages)


def tenants(seed: int, load: float = 1.3, size: int = 900) -> Trace:
    """Two users with more to do than there is room for, one of whom sends ten times as much.

    Single requests, so that neither waits for itself: both are backlogged nearly all of the time.
    """
    make, hosts = Maker(seed), fleet_of(4)
    conversations = []
    for number in range(size):
        user = "modest" if make.random.random() < 1 / 11 else "greedy"
        names = f"{user}-{number}", user
        conversations.append(converse(make, CHAT_MODEL.name, (), SINGLE, names))
    return Trace(
        "tenants", hosts, (CHAT_MODEL,), timed(make, conversations, load, hosts, (CHAT_MODEL,))
    )


TRACES: dict[str, Callable[..., Trace]] = {
    "chat": chat,
    "openwebui": openwebui,
    "agents": agents,
    "rag": rag,
    "models": models,
    "mixed": mixed,
    "failures": failures,
    "tenants": tenants,
}

# The chats under other assumptions, to see what the findings depend on; with the load.
VARIANTS: Final[dict[str, tuple[float, Manner]]] = {
    "as above": (0.8, USUAL),
    "system messages of 1,000 tokens": (0.8, Manner(system_tokens=1000)),
    "of 6,000": (0.8, Manner(system_tokens=6000)),
    "of 12,000": (0.8, Manner(system_tokens=12_000)),
    "one application": (0.8, Manner(applications=1)),
    "150 applications": (0.8, Manner(applications=150)),
    "10 turns": (0.8, Manner(turns=10)),
    "no cache in main memory, as before Ollama 0.30": (0.8, Manner(host=NO_RAM_CACHE)),
    "four slots each": (0.8, Manner(host=FOUR_SLOTS)),
    "110 % load: LiteLLM's hosts are 80 % busy": (1.1, USUAL),
    "the same, of 6,000": (1.1, Manner(system_tokens=6000)),
}
