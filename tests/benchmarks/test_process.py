import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.process import (
    CoreTime,
    Server,
    Stat,
    members,
    on_core,
    parse_core,
    parse_stat,
    start,
)

STAT = "{pid} ({name}) S {parent} 10 {session} 0 -1 4194560 1 2 3 4 50 60 7 8 20 0 3 0 99 1000 256 "


def stat(pid: int, parent: int, session: int) -> Stat:
    return Stat(pid, parent, session, 0, 0)


@pytest.mark.parametrize("name", ["nginx", "a b", "odd) S 1 1 1 (", ")", ""])
def test_the_name_of_a_command_may_hold_anything(name: str) -> None:
    line = STAT.format(pid=7, name=name, parent=3, session=9)
    assert parse_stat(line) == Stat(7, 3, 9, children_ticks=15, rss_pages=256)


def test_a_real_line_is_understood() -> None:
    mine = parse_stat(Path("/proc/self/stat").read_text())
    assert (mine.pid, mine.parent, mine.session) == (os.getpid(), os.getppid(), os.getsid(0))
    assert mine.rss_pages > 0


def test_a_tree_is_its_session_and_what_left_it() -> None:
    tree = [stat(10, 1, 10), stat(11, 10, 10), stat(12, 11, 12), stat(13, 12, 12)]
    orphan = stat(14, 1, 10)  # its parent has ended, the session keeps it
    others = [stat(20, 1, 20), stat(21, 20, 20)]
    found = members(10, {s.pid: s for s in [*tree, orphan, *others]})
    assert {s.pid for s in found} == {10, 11, 12, 13, 14}


def test_a_tree_that_has_ended_is_empty() -> None:
    assert members(10, {20: stat(20, 1, 20)}) == []


def test_a_core_s_time_is_read_from_its_own_line() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    text = (
        "cpu  9 9 9 9 9 9 9 9 0 0\n"
        f"cpu1 {ticks} 0 {ticks} 500 7 {ticks} {ticks} {2 * ticks} 0 0\n"
        "cpu10 1 1 1 1 1 1 1 1 0 0\nintr 1\n"
    )
    assert parse_core(text, 1) == CoreTime(busy_s=4.0, steal_s=2.0)
    with pytest.raises(LookupError):
        parse_core(text, 2)


@pytest.fixture
def busy_server(tmp_path: Path) -> Iterator[Server]:
    core = min(os.sched_getaffinity(0))
    script = "sleep 60 & while :; do :; done"
    log = tmp_path / "log"
    argv = ["/bin/sh", "-c", script]
    server = start(argv, core=core, log=log, env={}, folder=tmp_path)
    yield server
    server.stop()


def test_a_server_is_measured_and_ends_with_its_children(busy_server: Server) -> None:
    deadline = time.monotonic() + 20
    while busy_server.cpu_s() < 0.02:
        assert time.monotonic() < deadline, "a busy loop used no processor time"
    assert busy_server.rss_mb() > 0
    busy_server.stop()
    assert busy_server.exit_code is not None
    while busy_server.cpu_s() > 0:  # init has to collect the orphaned child
        assert time.monotonic() < deadline, "somebody of the tree is still there"


def test_starting_leaves_our_own_cores_as_they_were() -> None:
    before = os.sched_getaffinity(0)
    with on_core(max(before)):
        assert os.sched_getaffinity(0) == {max(before)}
    assert os.sched_getaffinity(0) == before
