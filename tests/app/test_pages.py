"""The pages of several workers as one."""

import asyncio
from pathlib import Path

from arriero.app.pages import Pages, add_up

PAGE = b"""# HELP requests_total Requests.
# TYPE requests_total counter
requests_total{alias="a b"} 2.0
requests_total{alias="c"} 1.0
# HELP wait_seconds Waits.
# TYPE wait_seconds histogram
wait_seconds_bucket{le="1.0"} 3.0
wait_seconds_bucket{le="+Inf"} 4.0
wait_seconds_count 4.0
wait_seconds_sum 2.5
# HELP open Open now.
# TYPE open gauge
open 5.0
# HELP backend_state 2 ejected.
# TYPE backend_state gauge
backend_state{backend="x"} 2.0
backend_state{backend="y"} 0.0
"""


def test_one_page_stays_as_it_is() -> None:
    assert add_up([PAGE]) == PAGE


def test_counts_are_sums_and_facts_are_not() -> None:
    both = add_up([PAGE, PAGE, b""]).decode().splitlines()
    assert 'requests_total{alias="a b"} 4.0' in both
    assert 'wait_seconds_bucket{le="+Inf"} 8.0' in both
    assert "wait_seconds_sum 5.0" in both
    assert "open 10.0" in both
    assert 'backend_state{backend="x"} 2.0' in both
    assert len(both) == len(PAGE.splitlines())


def test_the_worst_that_a_worker_knows_is_told() -> None:
    calm = PAGE.replace(b'backend="x"} 2.0', b'backend="x"} 0.0')
    for pages in ((PAGE, calm), (calm, PAGE)):
        assert b'backend_state{backend="x"} 2.0\n' in add_up(pages)


def test_samples_that_only_one_has_are_kept() -> None:
    head = b"# HELP requests_total Requests.\n# TYPE requests_total counter\n"
    other = head + b'requests_total{alias="d"} 7.0\n'
    lines = add_up([PAGE, other]).decode().splitlines()
    at = lines.index("# TYPE requests_total counter")
    assert lines[at + 1 : at + 4] == [
        'requests_total{alias="a b"} 2.0',
        'requests_total{alias="c"} 1.0',
        'requests_total{alias="d"} 7.0',
    ]


def test_what_the_dead_counted_stays_and_what_they_did_goes(tmp_path: Path) -> None:
    supervisor, survivor = Pages(tmp_path, -1), Pages(tmp_path, 0)
    for _ in range(2):  # two lives of the same worker
        (tmp_path / "1.page").write_bytes(PAGE)
        supervisor.retire(1)
    supervisor.retire(1)  # one that never came to write
    lines = survivor.combine(PAGE).decode().splitlines()
    assert 'requests_total{alias="a b"} 6.0' in lines
    assert "wait_seconds_count 12.0" in lines
    assert "open 5.0" in lines


async def test_each_adds_the_others_pages_to_its_own(tmp_path: Path) -> None:
    one, other = Pages(tmp_path, 0), Pages(tmp_path, 1)
    (tmp_path / "0.page").write_bytes(PAGE)  # older than what it says itself now
    async with asyncio.TaskGroup() as group:
        task = group.create_task(other.run(lambda: PAGE))
        while not (tmp_path / "1.page").exists():  # noqa: ASYNC110 - polled
            await asyncio.sleep(0.01)
        task.cancel()
    assert b"open 10.0\n" in one.combine(PAGE)
