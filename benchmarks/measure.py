"""The two phases of one entrant in one round: whole answers, then streams."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from benchmarks import bodies, meter, process
from benchmarks.gateways import CHAT, Gateway, Launch, Site
from benchmarks.install import Installed
from benchmarks.meter import Usage
from benchmarks.ports import ask, free_ports, wait_for_200
from benchmarks.process import Server
from benchmarks.rig import Mock, Rig, RigBroken, Target, mock_stats

MOCK_LATE_MAX_MS = 50.0
SETTLE_S = 0.5
RECOVER_S = 2.0
PACED_CONNECTIONS = 64
PACED_DELAY_MS = 12
PACED_SHARE_MIN = 0.8  # the time of the answers themselves is not in the pace


@dataclass(frozen=True)
class Plan:
    """How long and how much; `quick` shortens the times and never the number of streams."""

    seconds: float = 3.0
    rounds: int = 3
    streams: int = 1000
    rate: float = 20.0
    ramp_s: float = 2.0
    ramp_max_s: float = 20.0
    limit_s: float = 1500.0
    # The figures of memory with idle streams vary little: the first round takes them.
    memory: bool = True


@dataclass
class Figures:
    """The figures of one entrant in one round, and what is to be said about some of them."""

    values: dict[str, float] = field(default_factory=dict)
    marks: dict[str, list[str]] = field(default_factory=dict)

    def put(self, values: Mapping[str, float], marks: list[str]) -> None:
        """Add figures which were taken together and share their marks."""
        self.values.update(values)
        if marks:
            self.marks.update({key: list(marks) for key in values})


@dataclass(frozen=True)
class Subject:
    """What is measured now: the address, and the process behind it unless it is the mock."""

    target: Target
    server: Server | None
    mock: Mock


def client_headers(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that every client sends."""
    return {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {bodies.KEY}",
        "User-Agent": "bench",
        **extra,
    }


def direct(mock: Mock) -> Subject:
    """Return the subject of the row without a gateway."""
    return Subject(Target(mock.ports[0], client_headers({})), None, mock)


@dataclass(frozen=True)
class Entry:
    """A gateway with its installation."""

    gateway: Gateway
    installed: Installed


@contextmanager
def running(entry: Entry, rig: Rig, mock: Mock, figures: Figures) -> Iterator[Subject]:
    """Start a gateway, wait until it answers a chat, and end it afterwards."""
    (port,) = free_ports(1)
    folder = rig.folder / entry.gateway.name
    folder.mkdir(parents=True, exist_ok=True)
    site = Site(port, mock.ports, folder, entry.installed)
    launch = entry.gateway.launch(site)
    target = Target(port, client_headers(launch.headers))
    server = _start(launch, rig, folder)
    try:
        _wait_ready(entry.gateway, server, target, figures)
        yield Subject(target, server, mock)
    finally:
        server.stop()


def _start(launch: Launch, rig: Rig, folder: Path) -> Server:
    log = folder / "output.log"
    core = rig.cores.gateway
    return process.start(launch.argv, core=core, log=log, env=launch.env, folder=folder)


def _wait_ready(gateway: Gateway, server: Server, target: Target, figures: Figures) -> None:
    limit = gateway.ready_limit_s
    # Of our own gateway the probe a load balancer would use is looked at too. It is asked first
    # in one of the two phases only, so that the other has the chat's time undisturbed.
    if gateway.family == "ours" and "ready_s" in figures.values:
        probe_s = wait_for_200(server, target.port, ("/health/readiness", None, {}), limit)
        figures.put({"ready_probe_s": probe_s}, [])
    question = bodies.question("Are you there?", stream=False)
    ready_s = wait_for_200(server, target.port, (CHAT, question, target.headers), limit)
    figures.values.setdefault("ready_s", ready_s)


def refuses_strangers(target: Target) -> bool:
    """Ask without the key; a gateway that checks keys does not answer (LiteLLM says 500)."""
    headers = {name: text for name, text in target.headers.items() if name != "Authorization"}
    status, _ = ask(target.port, CHAT, bodies.question("Hello", stream=False), headers)
    return status != 200


# Whole answers -----------------------------------------------------------------------------------


def requests_phase(subject: Subject, rig: Rig, plan: Plan, figures: Figures) -> None:
    """Take all figures of requests that are not streamed."""
    if subject.server is not None:
        time.sleep(SETTLE_S)
        figures.put({"rss_idle_mb": subject.server.rss_mb()}, [])
        figures.put({"checks_keys": float(refuses_strangers(subject.target))}, [])
    rig.wrk(subject.target, 32, 1)
    _throughput(subject, rig, plan, figures)
    _paced(subject, rig, plan, figures)
    _latency(subject, rig, plan, figures)
    if subject.server is not None:
        time.sleep(SETTLE_S)
        figures.put({"rss_loaded_mb": subject.server.rss_mb()}, [])


def _throughput(subject: Subject, rig: Rig, plan: Plan, figures: Figures) -> None:
    before = meter.sample(subject.server, rig.cores)
    result = rig.wrk(subject.target, 32, plan.seconds)
    use = meter.usage(before, meter.sample(subject.server, rig.cores))
    marks = _wrk_marks(result.errors) + _noise(subject, use)
    if result.requests == 0:
        figures.marks["requests_per_s"] = [*marks, "no request was answered"]
        return
    figures.put(_cpu(subject, use, "cpu_us_per_request", result.requests), marks)
    rate = {"requests_per_s": result.requests / result.seconds}
    latency = {"p50_c32_ms": result.p50_ms, "p99_c32_ms": result.p99_ms}
    figures.put(rate | latency, marks + _rig_bound(subject, use))


def _paced(subject: Subject, rig: Rig, plan: Plan, figures: Figures) -> None:
    """The same work at the same pace for all: about 5,000 requests a second, if it can."""
    before = meter.sample(subject.server, rig.cores)
    result = rig.wrk(subject.target, PACED_CONNECTIONS, plan.seconds, PACED_DELAY_MS)
    use = meter.usage(before, meter.sample(subject.server, rig.cores))
    marks = _wrk_marks(result.errors) + _noise(subject, use)
    share = result.requests / result.seconds * PACED_DELAY_MS / 1e3 / PACED_CONNECTIONS
    if share < PACED_SHARE_MIN:
        marks.append(f"kept {share:.0%} of the pace")
    figures.put(_cpu(subject, use, "cpu_us_per_request_paced", result.requests), marks)


def _latency(subject: Subject, rig: Rig, plan: Plan, figures: Figures) -> None:
    before = meter.sample(subject.server, rig.cores)
    result = rig.wrk(subject.target, 1, max(1.0, plan.seconds / 2))
    use = meter.usage(before, meter.sample(subject.server, rig.cores))
    marks = _wrk_marks(result.errors) + _noise(subject, use)
    figures.put({"p50_c1_ms": result.p50_ms, "p99_c1_ms": result.p99_ms}, marks)


def _noise(subject: Subject, use: Usage) -> list[str]:
    """Say what disturbed a gateway; the row without one does not use the gateway's core."""
    return meter.noise(use) if subject.server is not None else []


def _rig_bound(subject: Subject, use: Usage) -> list[str]:
    """Say that the rig was the limit, which it always is of the row without a gateway."""
    return meter.rig_bound(use) if subject.server is not None else []


def _wrk_marks(errors: int) -> list[str]:
    return [f"{errors} requests failed"] if errors else []


def _cpu(subject: Subject, use: Usage, key: str, count: int) -> dict[str, float]:
    if subject.server is None or count == 0:
        return {}
    return {key: use.cpu_s / count * 1e6}


# Streams -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StreamResult:
    """What the streaming client and the counters saw in one window."""

    said: Mapping[str, Any]
    use: Usage
    rss_mb: float
    marks: list[str]

    @property
    def window_chunks(self) -> int:
        """How many chunks arrived in the window."""
        return int(self.said["window_chunks"])


def streams_phase(subject: Subject, rig: Rig, plan: Plan, figures: Figures) -> None:
    """Take all figures of streams; the heaviest last, because it may leave a gateway ill."""
    for step in STREAM_STEPS:
        step(subject, rig, plan, figures)
    if subject.server is None:
        return
    _recovery(subject, figures)
    if plan.memory:
        time.sleep(RECOVER_S)
        figures.put({"rss_after_mb": subject.server.rss_mb()}, [])


def _first_token(subject: Subject, rig: Rig, plan: Plan, figures: Figures) -> None:
    """100 streams of a second each, one following the other: 100 first tokens a second."""
    chunks = round(plan.rate)
    options = _options(plan, 100) | {"ramp": 1.0, "repeat": float(chunks)}
    result = _stream(subject, rig, bodies.order(chunks, plan.rate), options)
    ttft = result.said["ttft_ms"]
    if ttft["count"] == 0:
        figures.marks["ttft_p99_ms"] = [*result.marks, "no stream began"]
        return
    values = {"ttft_p50_ms": ttft["p50"], "ttft_p99_ms": ttft["p99"]}
    figures.put(values, result.marks)


def _few_streams(subject: Subject, rig: Rig, plan: Plan, figures: Figures) -> None:
    """100 streams that go on: processor time per chunk at 2,000 chunks a second."""
    options = _options(plan, 100) | {"ramp": 0.5}
    result = _stream(subject, rig, bodies.order(1_000_000, plan.rate), options)
    marks = result.marks + _short_of(result, 100 * plan.rate)
    cpu = _cpu(subject, result.use, "cpu_us_per_chunk_100", result.window_chunks)
    figures.put(cpu, marks)


def _unpaced(subject: Subject, rig: Rig, plan: Plan, figures: Figures) -> None:
    """32 streams as fast as they are read; here many chunks travel in one read."""
    options = _options(plan, 32) | {"ramp": 0.0, "seconds": max(1.0, plan.seconds / 2)}
    result = _stream(subject, rig, bodies.order(1_000_000_000, 0), options)
    rate = result.window_chunks / float(result.said["window_s"])
    figures.put({"chunks_per_s_max": rate}, result.marks + _rig_bound(subject, result.use))


def _recovery(subject: Subject, figures: Figures) -> None:
    """The client of the unpaced streams has left; how long until the next one is answered?

    Whoever goes on working on abandoned streams makes everybody else wait.
    """
    began = time.monotonic()
    question = bodies.question("Are you still there?", stream=False)
    try:
        status, _ = ask(subject.target.port, CHAT, question, subject.target.headers)
    except (OSError, HTTPException) as problem:
        figures.marks["recovery_ms"] = [f"no answer: {type(problem).__name__}"]
        return
    marks = [] if status == 200 else [f"the answer was {status}"]
    figures.put({"recovery_ms": (time.monotonic() - began) * 1e3}, marks)


def _idle_streams(subject: Subject, rig: Rig, plan: Plan, figures: Figures) -> None:
    """1,000 streams that have begun and then wait, as for a slow model."""
    if subject.server is None or not plan.memory:
        return
    options = _options(plan, plan.streams) | {"seconds": 1.0}
    result = _stream(subject, rig, bodies.order(2, 0.01), options)
    figures.put({"rss_idle_streams_mb": result.rss_mb}, result.marks + _missing(result, plan))


def _many_streams(subject: Subject, rig: Rig, plan: Plan, figures: Figures) -> None:
    """1,000 streams of 20 chunks a second: processor time, stalls, memory."""
    options = _options(plan, plan.streams)
    result = _stream(subject, rig, bodies.order(1_000_000, plan.rate), options)
    marks = result.marks + _missing(result, plan)
    short = _short_of(result, plan.streams * plan.rate)
    cpu = _cpu(subject, result.use, "cpu_us_per_chunk", result.window_chunks)
    figures.put(cpu, marks + short)
    if result.window_chunks == 0:
        figures.marks["stalls"] = [*marks, "no chunk came"]
        return
    gap_ms = result.said["gap_ms"]
    carried = result.window_chunks / float(result.said["window_s"])
    figures.put(
        {
            "chunks_per_s_1000": carried,
            "stalls": result.said["stalls"],
            "gap_max_ms": gap_ms["max"],
            "streams_open": result.said["open"],
        },
        marks,
    )
    if subject.server is not None:
        figures.put({"rss_active_streams_mb": result.rss_mb}, marks)


STREAM_STEPS: tuple[Callable[[Subject, Rig, Plan, Figures], None], ...] = (
    _first_token,
    _few_streams,
    _idle_streams,
    _many_streams,
    _unpaced,
)


def _options(plan: Plan, streams: int) -> dict[str, float]:
    return {
        "streams": float(streams),
        "ramp": plan.ramp_s,
        "ramp_max": plan.ramp_max_s,
        "seconds": plan.seconds,
    }


def _missing(result: StreamResult, plan: Plan) -> list[str]:
    missing = plan.streams - int(result.said["open"])
    return [f"{missing} of {plan.streams} streams did not stand"] if missing else []


def _short_of(result: StreamResult, wanted_per_s: float) -> list[str]:
    carried = result.window_chunks / float(result.said["window_s"])
    share = carried / wanted_per_s
    return [f"carried {share:.0%} of the chunks"] if share < 0.97 else []


def _stream(subject: Subject, rig: Rig, order: str, options: Mapping[str, float]) -> StreamResult:
    mock_stats(subject.mock)
    popen = rig.streamload(subject.target, order, options)
    try:
        _expect(popen, "steady")
        before = meter.sample(subject.server, rig.cores)
        _expect(popen, "end")
        after = meter.sample(subject.server, rig.cores)
        rss_mb = subject.server.rss_mb() if subject.server is not None else 0.0
        output, _ = popen.communicate("\n", timeout=30)
    finally:
        if popen.poll() is None:
            popen.kill()
            popen.wait()
    said = json.loads(output)
    use = meter.usage(before, after)
    return StreamResult(said, use, rss_mb, _stream_marks(subject, said, use))


def _expect(popen: "subprocess.Popen[str]", event: str) -> None:
    assert popen.stdout is not None, "the client was started with a pipe"
    line = popen.stdout.readline()
    if not line or json.loads(line).get("event") != event:
        raise RigBroken(f"the streaming client said {line!r} instead of {event!r}")


def _stream_marks(subject: Subject, said: Mapping[str, Any], use: Usage) -> list[str]:
    marks = [f"{count} streams: {kind}" for kind, count in said["errors"].items() if count]
    late_ms = mock_stats(subject.mock)["late_ns_max"] / 1e6
    if late_ms > MOCK_LATE_MAX_MS:
        marks.append(f"the mock itself was {late_ms:.0f} ms late")
    return marks + _noise(subject, use)
