"""A simulated host: what takes how long, and what its caches and its memory keep."""

import pytest
from benchmarks.fleet.host import NEVER, Host, Job
from benchmarks.fleet.specs import BATCH_COST, BATCH_TOKENS, VRAM_RECOVERY_S, HostSpec, ModelSpec
from benchmarks.fleet.workload import Segment, Turn, common_tokens

MODEL = ModelSpec("m", cache_tokens=3000)
SPEC = HostSpec("h", prefill_tps=1000.0, decode_tps=100.0, vram_bytes=10e9)
SYSTEM = Segment(1, "system", 1000)


def user(number: int, tokens: int = 100) -> Segment:
    return Segment(number, "user", tokens)


def turn(*prompt: Segment, answer: int = 100, model: str = "m") -> Turn:
    return Turn(model, prompt, Segment(10_000 + prompt[-1].number, "assistant", answer), "s", "u")


def new_host(spec: HostSpec = SPEC, *models: ModelSpec) -> Host:
    host = Host(spec, models or (MODEL,))
    host.install((models or (MODEL,))[0])
    return host


def run(host: Host, *turns: Turn, now_s: float = 0.0) -> list[Job]:
    """Send requests at once and let the host come to rest."""
    jobs = [Job(one, now_s) for one in turns]
    for job in jobs:
        host.submit(job, now_s)
    while (now_s := host.next_s()) < NEVER:
        host.tick(now_s)
    return jobs


def test_a_request_alone_takes_its_prompt_and_its_answer() -> None:
    (job,) = run(new_host(), turn(user(1, 500), answer=200))
    assert [job.first_s, job.end_s] == pytest.approx([0.5, 2.5])


def test_requests_beyond_the_slots_wait_inside() -> None:
    first, second = run(new_host(), turn(user(1, 500)), turn(user(2, 500)))
    assert second.started_s == pytest.approx(first.end_s) == pytest.approx(1.5)


def test_answers_written_together_cost_each_other_a_little() -> None:
    host = new_host(HostSpec("h", 1000.0, 100.0, slots=2, ram_cache=False))
    jobs = run(host, turn(user(1, 1), answer=100), turn(user(2, 1), answer=100))
    assert jobs[1].end_s == pytest.approx(1 + BATCH_COST, rel=0.01)


def test_a_long_prompt_slows_the_answers_beside_it_down_to_a_token_a_batch() -> None:
    host = new_host(HostSpec("h", 1000.0, 100.0, slots=2, ram_cache=False))
    short, long = run(host, turn(user(1, 1), answer=100), turn(user(2, 2048), answer=1))
    assert long.first_s == pytest.approx(2.049, rel=0.01)
    tokens_meanwhile = 2.048 * 1000 / BATCH_TOKENS
    assert short.end_s == pytest.approx(2.049 + (100 - tokens_meanwhile) / 100, rel=0.02)


def test_two_models_share_the_time() -> None:
    other = ModelSpec("other", size_bytes=MODEL.size_bytes)
    host = new_host(SPEC, MODEL, other)
    host.install(other)
    one, two = run(host, turn(user(1, 500)), turn(user(2, 500), model="other"))
    assert one.end_s == pytest.approx(two.end_s) == pytest.approx(3.0)


def test_the_next_turn_reads_only_what_is_new() -> None:
    host = new_host()
    first = turn(SYSTEM, user(2))
    run(host, first)
    (job,) = run(host, turn(*first.prompt, first.answer, user(3)), now_s=100.0)
    assert job.cached_tokens == 1200
    assert job.first_s == pytest.approx(100.1)


def test_the_last_token_is_always_read() -> None:
    host = new_host()
    first = turn(SYSTEM, user(2))
    run(host, first)
    (job,) = run(host, turn(*first.prompt), now_s=100.0)
    assert job.cached_tokens == 1099


def test_main_memory_gives_back_what_the_slot_lost() -> None:
    one, two = turn(user(1, 900)), turn(user(2, 900))
    host = new_host()
    run(host, one)
    run(host, two, now_s=100.0)
    (job,) = run(host, turn(user(1, 900), one.answer, user(3)), now_s=200.0)
    assert job.cached_tokens == 0  # another object is another text
    (job,) = run(host, turn(*one.prompt, one.answer, user(3)), now_s=300.0)
    assert job.cached_tokens == 1000


def test_a_slot_that_keeps_half_of_itself_loses_the_rest_for_good() -> None:
    # llama-server saves nothing then, and looks for nothing better: the system message is most of
    # what the slot holds, and the first conversation's own part is overwritten.
    one, two = turn(SYSTEM, user(1, 200)), turn(SYSTEM, user(2, 200))
    host = new_host()
    run(host, one)
    run(host, two, now_s=100.0)
    (job,) = run(host, turn(*one.prompt, one.answer, user(3)), now_s=200.0)
    assert job.cached_tokens == 1000
    assert not host.runners["m"].ram


def test_a_prompt_of_which_little_is_of_use_stays_in_main_memory() -> None:
    long = turn(user(1, 300), user(2, 1500))
    host = new_host(SPEC, ModelSpec("m", cache_tokens=9000))
    run(host, long)
    run(host, turn(user(3, 900)), now_s=100.0)
    (job,) = run(host, turn(user(9, 10), user(4, 900)), now_s=200.0)
    assert job.cached_tokens == 0
    (job,) = run(host, turn(long.prompt[0], user(5, 100)), now_s=300.0)
    assert job.cached_tokens == 0  # 300 of 1,900 tokens are less than a quarter
    assert (*long.prompt, long.answer) in host.runners["m"].ram.values()


def test_main_memory_keeps_no_beginnings_of_what_it_keeps() -> None:
    short = turn(user(1, 300))
    host = new_host()
    run(host, short)
    run(host, turn(user(2, 900)), now_s=100.0)
    held = [list(each) for each in host.runners["m"].ram.values()]
    assert held == [[*short.prompt, short.answer]]
    runner = host.runners["m"]
    runner._save((*short.prompt, short.answer, user(3)))
    runner._save(short.prompt)
    assert [sum(segment.tokens for segment in each) for each in runner.ram.values()] == [500]


def test_an_embedded_server_copies_what_conversations_have_in_common() -> None:
    system = Segment(1, "system", 200)
    one, two = turn(system, user(2, 300)), turn(system, user(3, 300))
    host = new_host(HostSpec("h", 1000.0, 100.0, pool=4))
    cached = [
        run(host, asked, now_s=100.0 * at)[0].cached_tokens
        for at, asked in enumerate(
            (
                one,
                two,
                turn(*one.prompt, one.answer, user(4)),
                turn(*two.prompt, two.answer, user(5)),
            )
        )
    ]
    assert cached == [0, 200, 600, 600]


def test_an_embedded_server_overwrites_what_it_keeps_half_of() -> None:
    one, two = turn(SYSTEM, user(2, 300)), turn(SYSTEM, user(3, 300))
    host = new_host(HostSpec("h", 1000.0, 100.0, pool=4))
    run(host, one)
    run(host, two, now_s=100.0)
    (job,) = run(host, turn(*one.prompt, one.answer, user(4)), now_s=200.0)
    assert job.cached_tokens == 1000


def test_without_it_a_slot_keeps_one_conversation() -> None:
    one, two = turn(user(1, 900)), turn(user(2, 900))
    host = new_host(HostSpec("h", 1000.0, 100.0, ram_cache=False))
    run(host, one)
    run(host, two, now_s=100.0)
    (job,) = run(host, turn(*one.prompt, one.answer, user(3)), now_s=200.0)
    assert job.cached_tokens == 0


def test_main_memory_is_bounded() -> None:
    turns = [turn(user(number, 900)) for number in range(1, 7)]
    host = new_host()
    for number, one in enumerate(turns):
        run(host, one, now_s=100.0 * number)
    first = turns[0]
    (job,) = run(host, turn(*first.prompt, first.answer, user(9)), now_s=1000.0)
    assert job.cached_tokens == 0


def test_a_model_is_loaded_and_the_longest_idle_one_makes_room() -> None:
    small = [ModelSpec(name, 4e9) for name in "ab"]
    large = ModelSpec("c", 9e9)
    host = new_host(SPEC, *small, large)
    host.install(small[1])
    run(host, turn(user(1), model="a"))
    (job,) = run(host, turn(user(2), model="c"), now_s=100.0)
    assert set(host.runners) == {"c"}
    assert job.started_s == pytest.approx(100.0 + VRAM_RECOVERY_S + large.load_s)
    assert host.loads_made == 1


def test_a_busy_model_is_not_driven_out() -> None:
    one, other = ModelSpec("a", 6e9), ModelSpec("b", 6e9)
    host = new_host(SPEC, one, other)
    busy, cold = run(host, turn(user(1, 1000), model="a"), turn(user(2), model="b"))
    assert cold.started_s == pytest.approx(busy.end_s + VRAM_RECOVERY_S + other.load_s)


def test_a_crash_loses_everything() -> None:
    host = new_host()
    job, waiting = Job(turn(user(1)), 0.0), Job(turn(user(2)), 0.0)
    host.submit(job, 0.0)
    host.submit(waiting, 0.0)
    assert host.crash() == [job, waiting]
    assert host.next_s() == NEVER
    host.restart(50.0)
    assert not host.runners
    (again,) = run(host, turn(user(3)), now_s=60.0)
    assert again.started_s == pytest.approx(60.0 + MODEL.load_s)


def test_common_tokens_are_counted_by_whole_messages() -> None:
    said = user(2)
    assert common_tokens((SYSTEM, said, user(3)), (SYSTEM, said, user(3))) == 1100
    assert common_tokens((), (SYSTEM,)) == 0
