"""All gateways together never hold more permits than there are, and no waiter is forgotten."""

from hypothesis import given
from hypothesis import strategies as st

from arriero.core.permits import SPARE_TICKS, PermitClaim, Permits
from arriero.core.shares import Grant, Sharing


class Place:
    """The common place: free permits go to who has waited longest, as in the script."""

    def __init__(self) -> None:
        self.told: dict[str, tuple[int, list[float]]] = {}

    def answer(self, gateway: str, claim: PermitClaim) -> Grant:
        others = {name: told for name, told in self.told.items() if name != gateway}
        free = claim.limit - claim.held - sum(held for held, _ in others.values())
        line = [(when, name) for name, (_, since) in others.items() for when in since]
        elsewhere = len(line) + (free < 0)
        line = sorted(line + [(when, gateway) for when in claim.since_s])
        granted = sum(name == gateway for _, name in line[: max(free, 0)])
        self.told[gateway] = (claim.held + granted, claim.since_s[granted:])
        return Grant(granted, elsewhere, 0)

    @property
    def held(self) -> int:
        return sum(held for held, _ in self.told.values())


class Gateway:
    """One gateway, whose requests wait in line, enter and end."""

    def __init__(self, name: str, limit: int, place: Place) -> None:
        self.name, self.limit, self.place = name, limit, place
        self.running = 0
        self.sharing = Sharing()
        self.sharing.live = True
        self.permits = Permits(self.sharing, "concurrent\0key\0", limit, self)

    def come(self, now_s: float) -> None:
        self.permits.wait(object(), now_s, lambda: None)
        self.enter()

    def enter(self) -> None:
        permits = self.permits
        while permits.line and self.running < permits.most(self.limit):
            permits.leave(next(iter(permits.line)))
            self.running += 1
            permits.used()

    def end(self) -> None:
        if self.running:
            self.running -= 1
            self.permits.released()
            self.enter()

    def ask(self, *, tick: bool = False) -> None:
        claim = self.permits.claim(tick=tick)
        if claim is not None:
            self.permits.take_over(self.place.answer(self.name, claim), 0)
            self.enter()


def two(limit: int) -> tuple[Place, dict[str, Gateway]]:
    place = Place()
    return place, {name: Gateway(name, limit, place) for name in "ab"}


steps = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(["come", "end", "ask", "tick", "hear"])),
    max_size=120,
)


@given(st.integers(1, 4), steps)
def test_permits_are_never_more_and_everybody_gets_one(
    limit: int, taken: list[tuple[str, str]]
) -> None:
    place, gateways = two(limit)
    for now, (name, step) in enumerate(taken):
        gateway = gateways[name]
        if step == "come":
            gateway.come(float(now))
        elif step == "end":
            gateway.end()
        elif step == "hear":
            gateway.permits.press()
        else:
            gateway.ask(tick=step == "tick")
        assert sum(one.running for one in gateways.values()) <= place.held <= limit
    for _ in range(2 * len(taken) + 2):  # all come to their end
        for gateway in gateways.values():
            gateway.permits.press()
            gateway.end()
            gateway.ask(tick=True)
    assert not any(one.permits.line or one.running for one in gateways.values())


def test_who_waits_longest_is_next_wherever_that_is() -> None:
    _, gateways = two(1)
    a, b = gateways["a"], gateways["b"]
    a.come(1.0)
    a.ask()
    assert a.running == 1
    b.come(2.0)
    b.ask()
    a.come(3.0)
    a.ask()
    a.end()
    assert a.running == 0, "its permit is not its own to give away"
    a.ask()
    assert a.running == 0, "b came first"
    b.ask()
    assert (a.running, b.running) == (0, 1)


def test_a_gateway_alone_asks_once_for_one_after_the_other() -> None:
    _, gateways = two(1)
    a = gateways["a"]
    a.come(1.0)
    a.ask()
    for _ in range(5):
        a.end()
        a.come(2.0)
        assert a.running == 1


def test_a_permit_that_nobody_uses_goes_back() -> None:
    place, gateways = two(1)
    a = gateways["a"]
    a.come(1.0)
    a.ask()
    a.end()
    for _ in range(SPARE_TICKS):
        a.ask(tick=True)
    assert (place.held, a.permits.idle) == (0, True)


def test_after_a_loss_nobody_is_granted_more_before_there_are_fewer() -> None:
    place, gateways = two(2)
    a, b = gateways["a"], gateways["b"]
    for gateway in (a, b):  # each let in as many as the limit by its own count
        gateway.permits.void()
        gateway.running = 2
        gateway.ask()
    assert place.held == 4
    a.come(1.0)
    a.ask()
    a.end()
    a.end()
    a.ask()
    assert (a.running, b.running) == (0, 2)
    b.permits.press()
    b.end()
    b.ask()
    a.ask()
    assert (a.running, b.running) == (1, 1)
