from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from arriero.core.prefix import BLOCK_CHARS, BLOCKS_MAX, SESSIONS_MAX, Chain, Index, chain_of
from arriero.wire.canonical import (
    Chat,
    Completion,
    Embedding,
    Message,
    Part,
    Role,
    Sampling,
    Tool,
    ToolCall,
)

ANYBODY = (1 << 64) - 1
A, B, C = 1, 2, 4


def chat(*said: tuple[Role, str], **more: Any) -> Chat:
    return Chat(model="m", messages=[Message(*one) for one in said], sampling=Sampling(), **more)


SYSTEM: tuple[Role, str] = ("system", "You are terse.")
HELLO: tuple[Role, str] = ("user", "hello")
HI: tuple[Role, str] = ("assistant", "hi there")
MORE: tuple[Role, str] = ("user", "tell me more")


def held(index: Index, request: Chat, mask: int = ANYBODY) -> list[tuple[int, int]]:
    return index.holders(mask, chain_of(request))


# -- chains


def test_what_comes_later_does_not_change_the_hashes_before_it() -> None:
    short, long = chain_of(chat(SYSTEM, HELLO)), chain_of(chat(SYSTEM, HELLO, HI, MORE))
    assert long.hashes[:2] == short.hashes[:2]
    assert long.length == sum(len(text) for _, text in (SYSTEM, HELLO, HI, MORE))


@pytest.mark.parametrize(
    "other",
    [
        chat(("system", "You are terse!"), HELLO),
        chat(("user", SYSTEM[1]), HELLO),
        chat(HELLO, SYSTEM),
        chat(SYSTEM, HELLO, think="high"),
        chat(SYSTEM, HELLO, tools=[Tool("look")]),
    ],
)
def test_different_prompts_have_no_hash_in_common(other: Chat) -> None:
    chain = chain_of(chat(SYSTEM, HELLO))
    assert not set(chain.hashes) & set(chain_of(other).hashes)


def test_every_part_of_a_tool_counts() -> None:
    tools = [
        Tool("look", "at it", msgspec.Raw(b"{}")),
        Tool("look", "at it", msgspec.Raw(b'{"type":"object"}')),
        Tool("look", "for it", msgspec.Raw(b"{}")),
    ]
    assert len({chain_of(chat(HELLO, tools=[tool])).hashes[0] for tool in tools}) == 3


def test_a_message_is_not_the_same_as_two_with_the_same_text() -> None:
    whole, half = "x" * BLOCK_CHARS + "y", "x" * BLOCK_CHARS
    one = chain_of(chat(("user", whole)))
    two = chain_of(chat(("user", half), ("user", "y")))
    assert one.hashes[-1] != two.hashes[-1]


def test_long_messages_are_cut_so_that_their_beginnings_can_match() -> None:
    text = "x" * (3 * BLOCK_CHARS)
    chain = chain_of(chat(("user", text + "one")))
    assert chain.chars[:3] == [BLOCK_CHARS, 2 * BLOCK_CHARS, 3 * BLOCK_CHARS]
    assert chain.hashes[:3] == chain_of(chat(("user", text + "two"))).hashes[:3]


def test_pictures_and_calls_count_as_what_they_are() -> None:
    def seen(picture: str, argument: str) -> Chain:
        messages = [
            Message("user", [Part(text="what is it?"), Part(image_base64=picture)]),
            Message("assistant", "", tool_calls=[ToolCall("call_1", "look", argument)]),
        ]
        return chain_of(Chat(model="m", messages=messages, sampling=Sampling()))

    big = "A" * 100_000
    assert seen(big, "{}").length < 100  # megabytes of base64 are no text
    assert seen(big, "{}").hashes == seen(big, "{}").hashes
    assert seen(big, "{}").hashes[0] != seen(big + "B", "{}").hashes[0]
    assert seen(big, "{}").hashes[-1] != seen(big, '{"a":1}').hashes[-1]


def test_completions_have_chains_and_embeddings_have_none() -> None:
    def asked(prompt: str, suffix: str = "") -> Chain:
        return chain_of(Completion(model="m", prompt=prompt, suffix=suffix, sampling=Sampling()))

    assert asked("def f(").length == 6
    assert asked("def f(").hashes != asked("def f(", ")").hashes
    assert chain_of(Embedding(model="m", inputs=["a"])).length == 0


def test_a_megabyte_is_hashed_once() -> None:
    chain = chain_of(chat(("user", "x" * 1_000_000)))
    assert len(chain.hashes) == 1_000_000 // BLOCK_CHARS + 1


# -- who holds what


def test_the_longest_beginning_is_found_for_all_hosts_at_once() -> None:
    index = Index()
    index.note(A, chain_of(chat(SYSTEM, HELLO)))
    index.note(B, chain_of(chat(SYSTEM, MORE)))
    index.note(C, chain_of(chat(HELLO)))
    found = held(index, chat(SYSTEM, HELLO, ("user", "and now?")))
    assert found == [(A, len(SYSTEM[1] + HELLO[1])), (B, len(SYSTEM[1]))]


def test_the_answer_counts_where_it_was_given() -> None:
    index = Index()
    index.note(A, chain_of(chat(SYSTEM, HELLO)))
    index.note(B, chain_of(chat(SYSTEM, HELLO, HI, ("user", "something else"))))
    said = len(SYSTEM[1] + HELLO[1] + HI[1])
    assert held(index, chat(SYSTEM, HELLO, HI, MORE)) == [(B, said), (A, said)]


def test_another_answer_to_the_same_question_does_not_count() -> None:
    index = Index()
    index.note(A, chain_of(chat(SYSTEM, HELLO, ("assistant", "good day"), MORE)))
    assert held(index, chat(SYSTEM, HELLO, HI, MORE)) == [(A, len(SYSTEM[1] + HELLO[1]))]


def test_parts_come_longest_first_even_within_a_long_answer() -> None:
    long: tuple[Role, str] = ("assistant", "z" * (3 * BLOCK_CHARS))
    edited: tuple[Role, str] = ("assistant", "z" * (2 * BLOCK_CHARS) + "edited")
    index = Index()
    index.note(A, chain_of(chat(HELLO)))  # gave the long answer
    index.note(B, chain_of(chat(HELLO, edited)))  # holds two thirds of it
    found = held(index, chat(HELLO, long, MORE))
    assert [hosts for hosts, _ in found] == [A, B]
    assert found[0][1] > found[1][1]


def test_only_the_hosts_in_question_are_told() -> None:
    index = Index()
    index.note(A, chain_of(chat(SYSTEM)))
    index.note(B, chain_of(chat(SYSTEM)))
    assert held(index, chat(SYSTEM, HELLO), mask=B | C) == [(B, len(SYSTEM[1]))]
    assert held(index, chat(SYSTEM, HELLO), mask=C) == []
    assert held(Index(), chat(SYSTEM)) == []


def test_a_host_that_lost_its_cache_is_forgotten_alone() -> None:
    index = Index()
    for bit in (A, B):
        index.note(bit, chain_of(chat(SYSTEM, HELLO)))
    index.forget(A)
    index.forget(A)
    index.forget(C)
    assert {hosts for hosts, _ in held(index, chat(SYSTEM, HELLO))} == {B}
    index.forget(B)
    assert len(index) == 0


def test_the_ends_of_old_conversations_go_before_the_shared_beginning() -> None:
    index = Index(blocks_max=8)
    for number in range(50):
        index.note(A, chain_of(chat(SYSTEM, ("user", f"question {number}"))))
        assert len(index) <= 8
    assert held(index, chat(SYSTEM, ("user", "question 0"))) == [(A, len(SYSTEM[1]))]
    last = chat(SYSTEM, ("user", "question 49"))
    assert held(index, last)[0] == (A, chain_of(last).length)


def test_a_prompt_longer_than_the_bound_keeps_its_beginning() -> None:
    index = Index(blocks_max=4)
    long = chain_of(chat(*[HELLO] * 20))
    index.note(A, long)
    assert len(index) == 4
    assert index.holders(ANYBODY, long) == [(A, 4 * len(HELLO[1]))]


def test_the_bound_is_for_each_host() -> None:
    index = Index()
    for bit in (A, B, C):
        for number in range(BLOCKS_MAX):
            index.note(bit, chain_of(chat(("user", f"{bit} {number}"))))
    assert len(index) == 3 * BLOCKS_MAX


# -- against a model that keeps prompts as they are

texts = st.sampled_from(["a", "b", "c" * (BLOCK_CHARS + 7), "d" * (2 * BLOCK_CHARS)])
roles: st.SearchStrategy[Role] = st.sampled_from(["system", "user", "assistant"])
prompts = st.lists(st.tuples(roles, texts), min_size=1, max_size=6)
bits = st.sampled_from([A, B, C])


class NaiveIndex:
    """Remembers whole chains in order of use and compares them one by one."""

    def __init__(self, blocks_max: int) -> None:
        self.blocks_max = blocks_max
        self.used: dict[int, list[int]] = {A: [], B: [], C: []}
        self.uses = 0
        self.when: dict[tuple[int, int], int] = {}

    def note(self, bit: int, chain: Chain) -> None:
        self.uses += 1
        for block in reversed(chain.sent):
            if block in self.used[bit]:
                self.used[bit].remove(block)
            self.used[bit].append(block)
            self.when[bit, block] = self.uses
        del self.used[bit][: -self.blocks_max]

    def forget_as_old_as(self, bit: int, chain: Chain) -> None:
        """Forget what was used no later than the longest part of a prompt that is held."""
        found = [block for block in chain.hashes if block in self.used[bit]]
        if found:
            last = self.when[bit, found[-1]]
            self.used[bit] = [one for one in self.used[bit] if self.when[bit, one] > last]

    def longest(self, bit: int, chain: Chain) -> int:
        return max(
            (
                chars
                for block, chars in zip(chain.hashes, chain.chars, strict=True)
                if block in self.used[bit]
            ),
            default=0,
        )


class IndexMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.index = Index(blocks_max=12)
        self.naive = NaiveIndex(blocks_max=12)
        self.asked: list[Chain] = []

    @rule(bit=bits, said=prompts)
    def note(self, bit: int, said: list[tuple[Role, str]]) -> None:
        chain = chain_of(chat(*said))
        self.index.note(bit, chain)
        self.naive.note(bit, chain)
        self.asked.append(chain)

    @rule(bit=bits)
    def forget(self, bit: int) -> None:
        self.index.forget(bit)
        self.naive.used[bit].clear()

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), bit=bits)
    def find_gone(self, data: st.DataObject, bit: int) -> None:
        chain = data.draw(st.sampled_from(self.asked))
        held, use = self.index.last_use(bit, chain)
        assert (use > 0) == (held > 0 or any(b in self.naive.used[bit] for b in chain.hashes))
        self.index.forget_until(bit, use)
        self.naive.forget_as_old_as(bit, chain)

    @rule(said=prompts, mask=st.integers(0, 7))
    def look_up(self, said: list[tuple[Role, str]], mask: int) -> None:
        self.agree(chain_of(chat(*said)), mask)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), mask=st.integers(0, 7))
    def look_up_again(self, data: st.DataObject, mask: int) -> None:
        self.agree(data.draw(st.sampled_from(self.asked)), mask)

    def agree(self, chain: Chain, mask: int) -> None:
        found = self.index.holders(mask, chain)
        told = {bit: chars for hosts, chars in found for bit in (A, B, C) if hosts & bit}
        wanted = {bit: self.naive.longest(bit, chain) for bit in (A, B, C) if bit & mask}
        assert told == {bit: chars for bit, chars in wanted.items() if chars}
        assert [chars for _, chars in found] == sorted((c for _, c in found), reverse=True)
        assert sum(hosts.bit_count() for hosts, _ in found) == len(told)  # disjoint

    @invariant()
    def bounded(self) -> None:
        assert len(self.index) == len({one for used in self.naive.used.values() for one in used})


TestIndex = IndexMachine.TestCase


@given(prompts, prompts)
def test_chains_agree_exactly_as_far_as_the_prompts_do(
    left: list[tuple[Role, str]], right: list[tuple[Role, str]]
) -> None:
    common = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        common += len(one[1])
    mine, theirs = chain_of(chat(*left)), chain_of(chat(*right))
    known = set(theirs.sent)
    shared = [chars for block, chars in zip(mine.hashes, mine.chars, strict=True) if block in known]
    # Pieces of the first message that differs may agree too, hence "at least".
    assert max(shared, default=0) >= common


# -- names of conversations


def test_the_last_host_of_a_conversation_is_remembered() -> None:
    index = Index()
    index.note_session("alice:1", A)
    index.note_session("alice:1", B)
    assert (index.host_of("alice:1"), index.host_of("bob:1")) == (B, 0)


def test_conversations_are_forgotten_when_there_are_too_many() -> None:
    index = Index()
    index.note_session("old", A)
    index.note_session("used", A)
    for number in range(SESSIONS_MAX - 1):
        index.note_session(f"new {number}", B)
    index.note_session("used", A)
    assert (index.host_of("old"), index.host_of("used"), index.host_of("new 0")) == (0, A, B)
    index.note_session("one more", B)
    assert (index.host_of("used"), index.host_of("new 0")) == (A, 0)
