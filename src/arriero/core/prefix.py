"""Which hosts still hold the beginning of a conversation in their prompt caches.

Theory. A model server keeps the keys and values of the prompts it has read, and a request that
begins as one of them is spared that part of its prefill. No server tells what it holds, but the
gateway knows what it sent, and some tell afterwards what they had held of it (`learning`). A prompt
is cut into blocks, a message each and long messages into pieces of `BLOCK_CHARS`; each block's hash
includes the one before it, so that one hash stands for the whole prompt up to there (its *chain*).
An `Index` maps those hashes to bitmasks of hosts. A chain is looked up from its end: the first hash
that is known gives all the hosts with the longest common beginning at once, and the work does not
depend on how many hosts there are.

No text is kept, only hashes; they are Python's own, keyed anew in each process (SipHash, PEP 456),
so nobody can choose prompts that collide. Several gateways use others (`core.hints`). A wrong guess
costs a prefill and nothing else.

What a host can hold is bounded, and so is what is remembered of it: its least recently used blocks
go first. A chain is noted from its end to its beginning, so the end of a conversation is forgotten
before the system message that it shares with others.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from arriero.wire.canonical import CanonicalRequest, Chat, Completion, Message

BLOCK_CHARS: Final = 2048
# Of one model on one host. Ollama's prompt cache holds 8 GiB (llama.cpp #16391), 64k tokens of a
# model of 8B parameters: about 128 full blocks, or this many short messages.
BLOCKS_MAX: Final = 512
SESSIONS_MAX: Final = 4096

Hashed = Callable[[tuple[object, ...]], int]

_ANSWER: Final = 1  # stands for whatever a model answered to the prompt before it


class Chain(msgspec.Struct, frozen=True, gc=False):
    """A prompt's hashes, each of a longer beginning, and how many characters each stands for.

    `sent` are those that a host holds when it has answered the prompt.
    """

    hashes: list[int]
    chars: list[int]
    sent: list[int]

    @property
    def length(self) -> int:
        """How many characters the whole prompt has."""
        return self.chars[-1] if self.chars else 0


def chain_of(request: CanonicalRequest, hashed: Hashed = hash) -> Chain:
    """Return the chain of a request; embeddings have an empty one, because nothing of them stays.

    The model is not part of it: there is one index for each. Tools are, since templates write
    them in front of the first message, and so is everything that changes how a prompt is written.
    """
    if isinstance(request, Chat):
        tools = [
            hashed((tool.name, tool.description, bytes(tool.parameters))) for tool in request.tools
        ]
        return _chat_chain(hashed((str(request.think), *tools)), request.messages, hashed)
    if isinstance(request, Completion):
        message = Message("user", request.prompt)
        return _chat_chain(hashed((request.suffix,)), [message], hashed)
    return Chain([], [], [])


def _chat_chain(state: int, messages: Sequence[Message], hashed: Hashed) -> Chain:
    """Hash message by message.

    Beside an assistant's message stands the hash of "the answer to this", which is noted at the end
    of what was sent: the host that gave an answer has it in its cache, and the gateway does not
    keep answers to hash them.
    """
    hashes: list[int] = []
    chars: list[int] = []
    sent: list[int] = []
    length = 0
    for message in messages:
        content = message.content
        if type(content) is not str or message.tool_calls:
            content = _flat(message, hashed)
        before, start, end = state, 0, len(content)
        while end - start > BLOCK_CHARS:  # hardly ever
            state = hashed((state, content[start : start + BLOCK_CHARS]))
            start += BLOCK_CHARS
            hashes.append(state)
            sent.append(state)
            chars.append(length + start)
        length += end
        role = message.role
        if role == "assistant":
            hashes.append(hashed((before, _ANSWER)))
            chars.append(length)
        state = hashed((state, role, content[start:] if start else content))
        hashes.append(state)
        sent.append(state)
        chars.append(length)
    sent.append(hashed((state, _ANSWER)))
    return Chain(hashes, chars, sent)


def _flat(message: Message, hashed: Hashed) -> str:
    """Return all that a message says as one string; an image stands as its hash.

    An image's length in base64 says nothing of its tokens, so it is not to count as text.
    """
    content = message.content
    pieces = [content] if isinstance(content, str) else []
    if not isinstance(content, str):
        pieces += [f"{part.text}{hashed((part.image_base64,)):x}" for part in content]
    pieces += [f"{call.name}{call.arguments}" for call in message.tool_calls]
    return "\0".join(pieces)


class Index:
    """What the hosts of one model hold, as far as is known; hosts are bits of a mask."""

    __slots__ = ("_blocks_max", "_holders", "_recent", "_sessions", "_uses")

    def __init__(self, blocks_max: int = BLOCKS_MAX) -> None:
        self._blocks_max = blocks_max
        self._holders: dict[int, int] = {}  # hash: mask of the hosts
        # By bit: a host's hashes, the longest unused first, each with the number of its last use.
        self._recent: dict[int, OrderedDict[int, int]] = {}
        self._uses = 0
        # The last host of each conversation that has a name.
        self._sessions: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._holders)

    def note(self, bit: int, chain: Chain) -> None:
        """Remember that the host `bit` was sent a prompt and holds it now."""
        recent = self._recent.get(bit)
        if recent is None:
            recent = self._recent[bit] = OrderedDict()
        holders = self._holders
        use = self._uses = self._uses + 1
        for block in reversed(chain.sent):
            if block in recent:
                recent.move_to_end(block)
            else:
                holders[block] = holders.get(block, 0) | bit
            recent[block] = use
        while len(recent) > self._blocks_max:
            self._drop(recent.popitem(last=False)[0], bit)

    def held(self, bit: int, chain: Chain) -> float:
        """Return the part of a prompt, 0 to 1, that the host `bit` holds."""
        return self.last_use(bit, chain)[0]

    def last_use(self, bit: int, chain: Chain) -> tuple[float, int]:
        """Return the same, and when that part was used last: a number for `forget_until`."""
        recent = self._recent.get(bit)
        if recent:
            for place in range(len(chain.hashes) - 1, -1, -1):
                use = recent.get(chain.hashes[place])
                if use is not None:
                    return chain.chars[place] / max(chain.length, 1), use
        return 0.0, 0

    def holders(self, mask: int, chain: Chain) -> list[tuple[int, int]]:
        """Return who of `mask` holds how much: disjoint masks with characters, the longest first.

        Hosts that hold nothing of it are left out.
        """
        found = []
        known = self._holders
        for place in range(len(chain.hashes) - 1, -1, -1):
            hosts = known.get(chain.hashes[place])
            if hosts is not None and hosts & mask:
                found.append((hosts & mask, chain.chars[place]))
                mask &= ~hosts
                if not mask:
                    break
        return found

    def note_session(self, session: str, bit: int) -> None:
        """Remember that a conversation was last sent to the host `bit`."""
        sessions = self._sessions
        sessions[session] = bit
        sessions.move_to_end(session)
        if len(sessions) > SESSIONS_MAX:
            sessions.popitem(last=False)

    def host_of(self, session: str) -> int:
        """Return the last host of a conversation, 0 if it is not known."""
        return self._sessions.get(session, 0)

    def forget(self, bit: int) -> None:
        """Forget what a host holds: it was started again, or it unloaded the model."""
        for block in self._recent.pop(bit, ()):
            self._drop(block, bit)

    def forget_until(self, bit: int, use: int) -> None:
        """Forget what a host was thought to hold and used no later than that.

        Something of that age turned out to be gone, and caches let go of the longest unused first.
        """
        recent = self._recent.get(bit)
        while recent:
            block, last = next(iter(recent.items()))
            if last > use:
                return
            del recent[block]
            self._drop(block, bit)

    def _drop(self, block: int, bit: int) -> None:
        left = self._holders[block] ^ bit
        if left:
            self._holders[block] = left
        else:
            del self._holders[block]
