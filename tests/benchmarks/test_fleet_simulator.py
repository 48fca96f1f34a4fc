"""The simulator as a whole: the same every time, nothing lost, and what it is there to show."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.fleet import __main__ as command
from benchmarks.fleet import decisions, report
from benchmarks.fleet.baselines import BoundedHashing, LiteLlmLeastBusy
from benchmarks.fleet.engine import Engine, Request
from benchmarks.fleet.figures import Figures, figures, largest_gap, percentile, sample
from benchmarks.fleet.ours import Gateway
from benchmarks.fleet.policies import MAKERS, TITLES
from benchmarks.fleet.simulate import Results, compare, play
from benchmarks.fleet.traces import TRACES, VARIANTS, Maker, chat, openwebui, tenants
from benchmarks.fleet.workload import Outage, Trace
from hypothesis import given, settings
from hypothesis import strategies as st

SMALL = {"chat": 40, "agents": 8, "rag": 60, "models": 30, "mixed": 30, "failures": 40}


def small(name: str, seed: int = 1, load: float = 0.8) -> Trace:
    return TRACES[name](seed, load, SMALL.get(name, 60))


def finished(trace: Trace, policy: str) -> Engine:
    engine = Engine(trace)
    engine.run(MAKERS[policy](engine, 1))
    return engine


def settled(engine: Engine) -> Iterator[str]:
    """Yield what is not as it must be at the end of a run."""
    if len(engine.requests) != engine.trace.turns:
        yield "a request was lost or made"
    if any(one.outcome not in {"ok", "refused", "failed"} for one in engine.requests):
        yield "a request did not end"
    if engine.open:
        yield "requests are still open"
    if any(
        runner.jobs or runner.waiting for host in engine.hosts for runner in host.runners.values()
    ):
        yield "a host is still at work"


@pytest.mark.parametrize("policy", list(MAKERS))
@pytest.mark.parametrize("name", ["chat", "models", "failures"])
def test_every_request_ends_once(name: str, policy: str) -> None:
    assert list(settled(finished(small(name), policy))) == []


@pytest.mark.parametrize("policy", list(MAKERS))
def test_the_same_seed_gives_the_same_run(policy: str) -> None:
    def ends() -> list[tuple[float, str, int]]:
        requests = finished(small("failures"), policy).requests
        return [(one.ended_s, one.outcome, one.host) for one in requests]

    assert ends() == ends()


def test_other_seeds_give_other_runs() -> None:
    assert sample(finished(small("chat", 1), "adaptive")) != sample(
        finished(small("chat", 2), "adaptive")
    )


@settings(max_examples=20)
@given(
    st.integers(0, 1000),
    st.sampled_from(["adaptive", "least-busy", "litellm-least-busy", "herd-like"]),
    st.lists(
        st.builds(Outage, st.integers(0, 7), st.floats(0, 300), st.floats(0.1, 120)), max_size=12
    ),
)
def test_whatever_fails_nothing_is_lost(seed: int, policy: str, outages: list[Outage]) -> None:
    trace = replace(chat(seed, 0.9, 12), outages=outages)
    engine = Engine(trace)
    gateway = MAKERS[policy](engine, 1)
    engine.run(gateway)
    assert list(settled(engine)) == []
    if isinstance(gateway, Gateway):
        assert not gateway.queue.waiting
        assert not gateway.notes
        for host in gateway.fleet.hosts.values():
            assert host.in_flight == 0


def test_a_host_is_never_sent_more_than_it_has_slots() -> None:
    trace = small("chat", load=1.5)
    engine = Engine(trace)
    gateway = Gateway(engine, "adaptive")
    over: list[str] = []
    arrive = gateway.arrive

    def watched(request: Request, now_s: float) -> None:
        arrive(request, now_s)
        for host in engine.hosts:
            over.extend(name for name, runner in host.runners.items() if runner.waiting)

    gateway.arrive = watched  # type: ignore[method-assign]  # to look on
    engine.run(gateway)
    assert over == []


# -- what the baselines are like


def test_litellm_gives_every_tie_to_the_first_host() -> None:
    engine = finished(small("chat", load=0.02), "litellm-least-busy")
    hosts = [one.host for one in engine.requests]
    assert hosts.count(0) > len(hosts) * 0.8


def test_litellm_forgets_all_but_one_failed_attempt() -> None:
    trace = replace(small("chat", load=0.05), outages=[Outage(0, 0.0, 10_000.0)])
    engine = Engine(trace)
    policy = LiteLlmLeastBusy(engine, 1)
    engine.run(policy)
    assert sum(counts[0] for counts in policy._counts.values()) > 0


def test_bounded_hashing_keeps_conversations_together_and_loads_bounded() -> None:
    engine = Engine(small("agents", load=0.3))
    engine.run(BoundedHashing(engine, 1))
    homes: dict[str, set[int]] = {}
    for one in engine.requests:
        homes.setdefault(one.turn.session, set()).add(one.host)
    assert sum(len(hosts) == 1 for hosts in homes.values()) > len(homes) / 2


# -- what a client asks by itself


def test_tasks_follow_answers_one_after_the_other() -> None:
    engine = finished(openwebui(1, 0.3, 6), "adaptive")
    asked: dict[int, list[Request]] = {}
    for one in engine.requests:
        asked.setdefault(id(one.session), []).append(one)
    for requests in asked.values():
        chats = [one for one in requests if not one.turn.background]
        tasks = [one for one in requests if one.turn.background]
        assert len(tasks) == len(chats) + 2, "follow-ups always, title and tags once"
        after = [one for one in requests if one.arrived_s == chats[0].ended_s]
        assert len(after) == 1
        assert after[0].turn.background
        assert after[0].turn.prompt[1].tokens == sum(
            segment.tokens for segment in (*chats[0].turn.prompt[1:], chats[0].turn.answer)
        )
    assert list(settled(engine)) == []


def test_tasks_wait_for_people_and_nobody_waits_for_them() -> None:
    found = sample(finished(openwebui(1, 1.2, 120), "adaptive"))
    waits_s: dict[bool, list[float]] = {False: [], True: []}
    for one in found.requests:
        assert one.job is not None
        waits_s[one.turn.background].append(one.job.started_s - one.arrived_s)
    assert figures([found]).requests == len(waits_s[False]) < len(found.requests)
    mean_s = {whose: sum(waits) / len(waits) for whose, waits in waits_s.items()}
    assert mean_s[False] < mean_s[True]


# -- what is measured


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert percentile([3.0], 0.5) == 3.0


def test_the_queue_is_fair_and_hosts_are_not() -> None:
    trace = tenants(1, 1.3, 200)
    gaps = {
        policy: largest_gap(finished(trace, policy).requests)
        for policy in ("adaptive", "round-robin")
    }
    most = max(one.prompt_tokens + 2 * one.answer.tokens for s in trace.sessions for one in s.turns)
    slots = sum(host.slots for host in trace.hosts)
    assert gaps["adaptive"] <= 2 * slots * most
    assert gaps["round-robin"] > 4 * gaps["adaptive"]


def test_adaptive_keeps_agents_on_their_caches() -> None:
    found = compare(TRACES["agents"], ["adaptive", "litellm-least-busy", "round-robin"], [1])
    assert found["adaptive"].hit_rate > 0.9
    for rival in ("litellm-least-busy", "round-robin"):
        assert found["adaptive"].ttft_p95_s <= found[rival].ttft_p95_s / 3


def test_adaptive_does_not_drive_models_out_of_memory() -> None:
    found = compare(TRACES["models"], ["adaptive", "least-busy"], [1])
    assert found["adaptive"].loads * 5 < found["least-busy"].loads
    assert found["adaptive"].ttft_p95_s < found["least-busy"].ttft_p95_s / 2


def test_draws_have_the_means_they_say() -> None:
    make = Maker(1)
    assert sum(make.about(100) for _ in range(4000)) / 4000 == pytest.approx(100, rel=0.05)
    assert sum(make.count(4.6) for _ in range(4000)) / 4000 == pytest.approx(4.6, rel=0.05)


# -- what is written


@pytest.fixture(scope="module")
def results() -> Results:
    found = {
        policy: figures([play(tenants(1, 1.3, 60), policy, 1)])
        for policy in ("adaptive", "round-robin")
    }
    return Results(
        {"tenants": found, "chat": found},
        {"chat": {"0.8": found, "1": found}},
        {"as above": found, "otherwise": found},
    )


def test_results_survive_being_saved(results: Results, tmp_path: Path) -> None:
    report.save(results, [1], tmp_path / "fleet.json")
    again = report.load(tmp_path / "fleet.json")
    assert list(again.traces) == ["tenants", "chat"]
    assert again.traces["chat"]["adaptive"].ttft_p95_s == pytest.approx(
        results.traces["chat"]["adaptive"].ttft_p95_s, rel=1e-3
    )


def test_tables_and_charts_name_everybody(results: Results) -> None:
    text = report.full(results)
    for policy in ("adaptive", "round-robin"):
        assert text.count(TITLES[policy]) >= 3
        assert TITLES[policy] in report.bars(results)
        assert TITLES[policy] in report.lines(results)
    assert "| otherwise |" in text
    assert re.search(r"(reached|MISSED ) +chat: p95 is \d\.\d\d of round robin's", text)
    assert not re.search(r"\bnan\b", report.bars(results) + report.lines(results))


def test_every_variant_is_another_trace() -> None:
    made = [chat(1, load, 6, manner) for load, manner in VARIANTS.values()]
    told = [
        (trace.hosts, [(s.start_s, s.turns[0].prompt_tokens, len(s.turns)) for s in trace.sessions])
        for trace in made
    ]
    assert all(one not in told[:at] for at, one in enumerate(told))


def test_pages_are_replaced_between_their_markers() -> None:
    page = f"a\n{report.BEGIN}\nold\n{report.END}\nz"
    assert report.replaced(page, "new") == f"a\n{report.BEGIN}\nnew\n{report.END}\nz"
    assert report.replaced("none", "new") is None


def test_a_missed_target_is_told() -> None:
    good = Figures(1, 0.1, 0.1, 0.1, 1.0, 1.0, 0, 0, 0, 0, 0, 0)
    slow = replace(good, ttft_p95_s=0.2)
    told = report.target_lines(Results({"chat": {"adaptive": good, "round-robin": slow}}))
    assert [line[:7] for line in told] == ["MISSED ", "reached"]


def test_the_command_plays_a_trace(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["--traces", "tenants", "--policies", "adaptive,round-robin", "--seeds", "1"]
    assert command.main(["simulate", *chosen, "--no-sweep", "--no-pages"]) == 0
    assert "### tenants" in capsys.readouterr().out


def test_an_unknown_name_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["simulate", "--traces", "caht"])
    assert "hint: choose from chat," in capsys.readouterr().err


# -- the time of a decision


def test_every_part_of_a_decision_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "TIMES", 20)
    monkeypatch.setattr(decisions, "ROUNDS", 1)
    timings = [decisions.measure(hosts) for hosts in (2, 30)]
    assert all(one.adaptive > 0 and one.least_busy > 0 and one.chain > 0 for one in timings)
    assert len(decisions.table(timings)) == 4
    assert decisions.growth(timings) < 5
