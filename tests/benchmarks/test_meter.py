import pytest
from benchmarks.meter import Sample, noise, rig_bound, usage
from benchmarks.process import CoreTime

BEFORE = Sample(100.0, 5.0, CoreTime(50.0, 0.0), CoreTime(70.0, 0.0))


def after(cpu_s: float, gateway_busy_s: float, load_busy_s: float, steal_s: float = 0.0) -> Sample:
    gateway = CoreTime(50.0 + gateway_busy_s, steal_s)
    return Sample(110.0, 5.0 + cpu_s, gateway, CoreTime(70.0 + load_busy_s, steal_s))


def test_shares_are_of_one_core() -> None:
    use = usage(BEFORE, after(cpu_s=4.0, gateway_busy_s=6.0, load_busy_s=9.0, steal_s=1.0))
    assert use.seconds == 10.0
    assert use.cpu_s == 4.0
    assert use.foreign == pytest.approx(0.2)
    assert use.gateway_core_busy == pytest.approx(0.6)
    assert use.load_core_busy == pytest.approx(0.9)
    assert use.steal == pytest.approx(0.1)


def test_coarse_counters_give_no_negative_shares() -> None:
    assert usage(BEFORE, after(4.0, 3.99, 1.0)).foreign == 0


@pytest.mark.parametrize(
    ("busy_s", "steal_s", "count"), [(4.5, 0.0, 0), (6.0, 0.0, 1), (6.0, 1.0, 2)]
)
def test_noise_is_told(busy_s: float, steal_s: float, count: int) -> None:
    assert len(noise(usage(BEFORE, after(4.0, busy_s, 1.0, steal_s)))) == count


def test_the_rig_is_the_limit_only_while_the_gateway_has_time_left() -> None:
    assert rig_bound(usage(BEFORE, after(8.0, 8.0, 9.9)))
    assert not rig_bound(usage(BEFORE, after(9.9, 9.9, 9.9)))
    assert not rig_bound(usage(BEFORE, after(8.0, 8.0, 5.0)))
