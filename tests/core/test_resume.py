"""Which streams are resumed, and that the client cannot tell: for any text, split and place."""

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.config.settings import Model, OptionValue
from arriero.core.prefill import Ending, Prefill
from arriero.core.resume import (
    CUT_CHARS_MAX,
    RESUMPTIONS_MAX,
    Limits,
    Plan,
    Refusal,
    Seat,
    continued,
    ending,
    finished,
    is_text,
    limits,
    refusal,
    safe_cut,
)
from arriero.core.transcript import LOOP_PIECES, Transcript
from arriero.wire.canonical import (
    Chat,
    Chunk,
    Completion,
    Embedding,
    FinishReason,
    Message,
    Part,
    Sampling,
    Tool,
    ToolCall,
    Usage,
)

OPEN = Prefill(Ending.KEPT, Ending.KEPT, Ending.KEPT)
TRIMS = Prefill(Ending.TRIMMED, Ending.TRIMMED, Ending.TRIMMED)
OLLAMA = Seat("ollama", OPEN)
LLAMA = Seat("openai", OPEN)
FREE = Limits(None, greedy=False, stops=())
GREEDY = Limits(None, greedy=True, stops=())
TEXTS = st.text(alphabet="ab ,\nä", max_size=40)
CUTS = st.lists(st.integers(0, 60), max_size=12)


def chat(*more: Message, **fields: object) -> Chat:
    messages = [Message("user", "Say it"), *more]
    asked = Chat(model="m", messages=messages, text_only=True, stream=True, sampling=Sampling())
    return msgspec.structs.replace(asked, **fields)


def completion(**fields: object) -> Completion:
    asked = Completion(model="m", prompt="Once", stream=True, sampling=Sampling())
    return msgspec.structs.replace(asked, **fields)


def sent(*pieces: str | Chunk) -> Transcript:
    transcript = Transcript()
    transcript.add([Chunk(piece) if isinstance(piece, str) else piece for piece in pieces])
    return transcript


def split(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    return [text[a:b] for a, b in itertools.pairwise(places)]


def plan_of(request: Chat | Completion, transcript: Transcript, **how: object) -> Plan:
    how = {"limit": FREE, "seat": OLLAMA, "exact": True} | how
    plan = continued(request, transcript, **how)  # type: ignore[arg-type]  # a test's short form
    assert isinstance(plan, Plan)
    return plan


def begun(plan: Plan) -> str:
    request = plan.request
    if isinstance(request, Completion):
        return request.prompt.removeprefix("Once")
    assert isinstance(request, Chat)
    last = request.messages[-1]
    assert isinstance(last.content, str)
    return last.content if last.role == "assistant" else ""


# -- the client cannot tell


class Backend:
    """A model whose whole answer is `tokens`, whoever asks; it reads what was begun and goes on."""

    def __init__(self, tokens: list[str], *, trims: bool) -> None:
        self.text = "".join(tokens)
        self.tokens = tokens
        self.trims = trims

    def answer(self, begun: str, max_tokens: int | None) -> list[Chunk]:
        """Return the rest in the same tokens, and the end."""
        begun = begun.rstrip() if self.trims else begun
        assert self.text.startswith(begun)
        behind, rest = 0, []
        for token in self.tokens:
            new = token[max(len(begun) - behind, 0) :]
            behind += len(token)
            if new:
                rest.append(new)
        reason: FinishReason = "stop" if max_tokens is None or len(rest) < max_tokens else "length"
        rest = rest[:max_tokens]
        prompt = 10 + len(self.tokens) - sum(1 for _ in rest)
        usage = Usage(prompt, len(rest))
        return [*map(Chunk, rest), Chunk(finish_reason=reason, usage=usage)]


@given(
    tokens=st.lists(st.text(alphabet="ab ,\nä", min_size=1, max_size=5), max_size=20),
    deaths=st.lists(st.integers(0, 20), max_size=RESUMPTIONS_MAX),
    greedy=st.booleans(),
    trims=st.booleans(),
    tokens_max=st.one_of(st.none(), st.integers(1, 25)),
)
def test_an_interrupted_answer_is_the_uninterrupted_one(
    *, tokens: list[str], deaths: list[int], greedy: bool, trims: bool, tokens_max: int | None
) -> None:
    backend = Backend(tokens, trims=trims)
    seat = Seat("ollama", TRIMS if trims else OPEN)
    limit = Limits(tokens_max, greedy=greedy, stops=())
    request = chat(sampling=Sampling(max_tokens=tokens_max))
    transcript = Transcript()
    chunks = backend.answer("", tokens_max)
    expected = "".join(chunk.content for chunk in chunks)
    reason = chunks[-1].finish_reason
    for death in deaths:
        transcript.add(chunks[:death])
        if transcript.loops():
            return
        if finished(transcript, limit):
            assert transcript.text() == expected
            assert transcript.finished or reason == "length"
            return
        plan = continued(request, transcript, limit, seat, exact=True)
        assert isinstance(plan, Plan)
        assert isinstance(plan.request, Chat)
        left = plan.request.sampling.max_tokens
        chunks = plan.seam.feed(backend.answer(begun(plan), left))
    transcript.add(chunks)
    assert transcript.text() == expected
    assert chunks[-1].finish_reason == reason
    assert chunks[-1].usage
    if greedy or not trims:  # else white space is drawn again, and counted twice
        assert chunks[-1].usage.completion_tokens == len(tokens[:tokens_max])


@given(text=TEXTS, cuts=CUTS, greedy=st.booleans(), trims=st.booleans())
def test_what_is_asked_for_begins_with_what_was_sent(
    *, text: str, cuts: list[int], greedy: bool, trims: bool
) -> None:
    seat = Seat("ollama", TRIMS if trims else OPEN)
    limit = Limits(None, greedy=greedy, stops=())
    plan = continued(chat(), sent(*split(text, cuts)), limit, seat, exact=True)
    assert isinstance(plan, Plan)
    kept = begun(plan)
    assert text.startswith(kept)
    assert plan.exact is greedy
    if not greedy:
        assert kept == (text.rstrip() if trims else text)
    rest = text[len(kept) :]
    passed = plan.seam.feed([Chunk(rest + "!"), Chunk(finish_reason="stop")])
    assert "".join(chunk.content for chunk in passed) == "!"


# -- where a text is cut


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("One two thr", "One two"),
        ("One two ", "One two"),
        ("One two\n\n", "One two"),
        ("One two", "One"),
        ("One", ""),
        ("", ""),
        ("f(x);\n", ""),
        ("a f(x);\n", "a"),
        ("10 20", "10"),
        ("caf\u00e9 n", "caf\u00e9"),
        (" lead", ""),
    ],
)
def test_a_text_is_cut_between_a_word_and_white_space(text: str, kept: str) -> None:
    assert text[: safe_cut(text)] == kept


@given(st.text(max_size=300))
def test_a_cut_is_a_place_where_words_end(text: str) -> None:
    at = safe_cut(text)
    assert at in {0, len(text)} or (text[at - 1].isalnum() and text[at].isspace())
    assert at == 0 or len(text) - at <= CUT_CHARS_MAX


def test_a_text_without_such_a_place_stays_whole() -> None:
    text = "x" * (CUT_CHARS_MAX + 1)
    assert safe_cut(text) == len(text)
    assert safe_cut("a " + "x" * CUT_CHARS_MAX) == CUT_CHARS_MAX + 2
    assert safe_cut("a " + "x" * (CUT_CHARS_MAX - 2)) == 1
    assert safe_cut("x" * CUT_CHARS_MAX) == 0


# -- what is asked for


def test_the_text_becomes_the_last_message() -> None:
    plan = plan_of(chat(), sent("Hello", " wor"))
    assert isinstance(plan.request, Chat)
    assert plan.request.messages == [Message("user", "Say it"), Message("assistant", "Hello wor")]
    assert plan.request.continue_final_message
    assert plan.request.text_only


def test_it_is_put_behind_a_begun_message() -> None:
    request = chat(Message("assistant", "So: "), continue_final_message=True)
    for seat in (OLLAMA, LLAMA):
        plan = plan_of(request, sent("Hello"), seat=seat)
        assert begun(plan) == "So: Hello"
        assert isinstance(plan.request, Chat)
        assert len(plan.request.messages) == 2
    assert request.messages[-1].content == "So: ", "a further resumption begins with it again"


def test_thoughts_go_with_the_text() -> None:
    plan = plan_of(chat(), sent(Chunk(thinking="hm"), "Hello"))
    assert isinstance(plan.request, Chat)
    assert plan.request.messages[-1] == Message("assistant", "Hello", "hm")


def test_nothing_is_asked_differently_when_nothing_was_said() -> None:
    request = chat()
    plan = plan_of(request, sent(), seat=Seat("ollama", None))
    assert plan.request == request


def test_a_completion_goes_on_where_its_prompt_ends() -> None:
    plan = plan_of(completion(echo=True), sent(" upon"), seat=Seat("openai", None))
    assert isinstance(plan.request, Completion)
    assert plan.request.prompt == "Once upon"


def test_a_completion_is_a_chat_to_ollama() -> None:
    plan = plan_of(completion(include_usage=True), sent(" upon"))
    assert isinstance(plan.request, Chat)
    assert plan.request.messages == [Message("user", "Once"), Message("assistant", " upon")]
    assert plan.request.stream
    assert plan.request.include_usage


def test_the_limit_counts_what_was_generated() -> None:
    limit = Limits(10, greedy=False, stops=())
    request = chat(sampling=Sampling(max_tokens=10, seed=4))
    plan = plan_of(request, sent("a", " b", " c"), limit=limit)
    assert plan.request.sampling == Sampling(max_tokens=7, seed=4)  # type: ignore[union-attr]  # a chat
    greedy = Limits(10, greedy=True, stops=())
    plan = plan_of(request, sent("a", " b", " c"), limit=greedy)
    assert plan.request.sampling.max_tokens == 8  # type: ignore[union-attr]  # " c" is told again
    assert request.sampling.max_tokens == 10


def test_an_answer_at_its_limit_needs_only_its_end() -> None:
    limit = Limits(3, greedy=False, stops=())
    assert finished(sent("a", " b", " c"), limit)
    assert not finished(sent("a", " b"), limit)
    assert not finished(sent("a", " b", " c"), FREE)
    assert finished(sent("a", Chunk(finish_reason="stop")), FREE)


def test_a_second_try_gives_the_whole_text() -> None:
    assert begun(plan_of(chat(), sent("one two"), limit=GREEDY)) == "one"
    plan = plan_of(chat(), sent("one two"), limit=GREEDY, exact=False)
    assert (begun(plan), plan.exact) == ("one two", False)


def test_a_stop_string_holds_across_the_seam() -> None:
    limit = Limits(None, greedy=False, stops=("END",))
    plan = plan_of(chat(), sent("x E", "N"), limit=limit)
    passed = plan.seam.feed([Chunk("D more")])
    assert passed[-1].finish_reason == "stop"
    assert passed[-1].content == ""


# -- what a request's options say


def only(*stops: str) -> Limits:
    return Limits(None, greedy=False, stops=stops)


@pytest.mark.parametrize(
    ("sampling", "options", "cap", "found"),
    [
        (Sampling(), {}, None, Limits(None, greedy=False, stops=())),
        (Sampling(max_tokens=5, temperature=0), {}, None, Limits(5, greedy=True, stops=())),
        (Sampling(top_k=1), {}, 9, Limits(9, greedy=True, stops=())),
        (Sampling(max_tokens=5), {}, 3, Limits(3, greedy=False, stops=())),
        (
            Sampling(),
            {"num_predict": -1, "temperature": 0},
            None,
            Limits(None, greedy=True, stops=()),
        ),
        (
            Sampling(temperature=1),
            {"num_predict": 4, "temperature": 0},
            None,
            Limits(4, greedy=False, stops=()),
        ),
        (Sampling(stop=["a", "b"]), {"stop": "c"}, None, only("a", "b")),
        (Sampling(), {"stop": "c"}, None, only("c")),
        (Sampling(), {"stop": ("c", "d")}, None, only("c", "d")),
    ],
)
def test_options_may_be_the_clients_or_the_aliass(
    sampling: Sampling, options: dict[str, OptionValue], cap: int | None, found: Limits
) -> None:
    model = Model(name="m", routes=(), options=options, max_output_tokens=cap)
    assert limits(chat(sampling=sampling), model) == found


def test_a_clients_own_options_count_where_they_are_allowed() -> None:
    own = {"num_predict": msgspec.Raw(b"6"), "temperature": msgspec.Raw(b'"cold"')}
    allowed = Model(name="m", routes=(), client_options="allow")
    assert limits(chat(model_options=own), allowed) == Limits(6, greedy=False, stops=())
    assert limits(chat(model_options=own), Model(name="m", routes=())) == FREE


# -- which are not resumed

FORMAT = msgspec.Raw(b'"json"')
FORCED = {"tools": [Tool("f")], "tool_choice": msgspec.Raw(b'"required"')}


@pytest.mark.parametrize(
    ("request_", "good"),
    [
        (chat(), True),
        (chat(tools=[Tool("f")]), True),
        (chat(tools=[Tool("f")], tool_choice=msgspec.Raw(b'"auto"')), True),
        (chat(format=FORMAT), False),
        (chat(logprobs=True), False),
        (chat(**FORCED), False),
        (completion(), True),
        (completion(suffix="end"), False),
        (completion(logprobs=0), False),
        (Embedding(model="m", inputs=["a"]), False),
    ],
)
def test_only_plain_text_is_gone_on_with(
    request_: Chat | Completion | Embedding, *, good: bool
) -> None:
    assert is_text(request_) is good
    assert (refusal(request_, sent("a"), 0) is Refusal.NOT_TEXT) is not good


@pytest.mark.parametrize(
    ("transcript", "times", "found"),
    [
        (sent("a"), 0, None),
        (sent(), 0, None),
        (sent("a"), RESUMPTIONS_MAX - 1, None),
        (sent("a"), RESUMPTIONS_MAX, Refusal.TOO_OFTEN),
        (sent("a", Chunk(tool_calls=[ToolCall("call_1", "f", "{}")])), 0, Refusal.TOOL_CALL),
        (sent(Chunk(thinking="hm")), 0, Refusal.THINKING),
        (sent(Chunk(thinking="hm"), "a"), 0, None),
        (sent(*[" the"] * LOOP_PIECES), 0, Refusal.LOOPING),
    ],
)
def test_what_was_sent_may_forbid_it(
    transcript: Transcript, times: int, found: Refusal | None
) -> None:
    assert refusal(chat(), transcript, times) is found


def test_a_last_message_must_be_one_that_text_can_follow() -> None:
    call = Message("assistant", tool_calls=[ToolCall("call_1", "f", "{}")])
    parts = Message("assistant", [Part(text="a")])
    for last in (call, parts):
        assert refusal(chat(last), sent("a"), 0) is Refusal.LAST_MESSAGE
        assert refusal(chat(last), sent(), 0) is None, "it is asked once more as it was"
    assert refusal(chat(Message("assistant", "a")), sent("a"), 0) is None


CLOSED_TOOLS = Prefill(Ending.KEPT, Ending.CLOSED, Ending.TRIMMED)


@pytest.mark.parametrize(
    ("request_", "seat", "found"),
    [
        (chat(), OLLAMA, Ending.KEPT),
        (chat(), Seat("ollama", None), None),
        (chat(), Seat("ollama", CLOSED_TOOLS), Ending.KEPT),
        (chat(tools=[Tool("f")]), Seat("ollama", CLOSED_TOOLS), Ending.CLOSED),
        (chat(), Seat("ollama", CLOSED_TOOLS, thinks=True), Ending.TRIMMED),
        (chat(think=False), Seat("ollama", CLOSED_TOOLS, thinks=True), Ending.KEPT),
        (chat(Message("assistant", "So")), OLLAMA, Ending.KEPT),
        (chat(Message("assistant", "So")), LLAMA, Ending.CLOSED),
        (completion(), Seat("openai", None), Ending.KEPT),
        (completion(), Seat("ollama", None), None),
        (completion(), OLLAMA, Ending.KEPT),
    ],
)
def test_what_becomes_of_the_text_depends_on_the_template(
    request_: Chat | Completion, seat: Seat, found: Ending | None
) -> None:
    assert ending(request_, sent("a"), seat) is found
    plan = continued(request_, sent("a"), FREE, seat, exact=True)
    if found is None:
        assert plan is Refusal.UNVERIFIED
    elif found is Ending.CLOSED:
        assert plan is Refusal.CLOSED
    else:
        assert isinstance(plan, Plan)


def test_thoughts_that_a_template_leaves_out_forbid_it() -> None:
    forgets = Seat("ollama", Prefill(Ending.KEPT, Ending.KEPT, Ending.CLOSED))
    thought = sent(Chunk(thinking="hm"), "a")
    assert continued(chat(), thought, FREE, forgets, exact=True) is Refusal.CLOSED
    assert isinstance(continued(chat(), sent("a"), FREE, forgets, exact=True), Plan)
