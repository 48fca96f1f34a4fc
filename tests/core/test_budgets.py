"""A budget of several gateways is used once, and what any of them used stays known."""

from hypothesis import given
from hypothesis import strategies as st

from arriero.core.budgets import Budget, BudgetClaim
from arriero.core.shares import Grant, Sharing

DAY = "2027-01-15"


class Place:
    """The common place, as the script keeps it."""

    def __init__(self) -> None:
        self.base: int | None = None
        self.own: dict[str, int] = {}

    def answer(self, gateway: str, claim: BudgetClaim, *, gone: frozenset[str]) -> Grant:
        self.base = claim.base if self.base is None else min(self.base, claim.base)
        self.own[gateway] = claim.own
        used = self.base + sum(self.own.values())
        granted = max(0, min(claim.want, claim.limit - used))
        self.own[gateway] += granted
        settled = self.base + sum(self.own[name] for name in gone if name in self.own)
        return Grant(granted, used - claim.own, settled)


def budget_of(limit: int, base: int = 0) -> Budget:
    budget = Budget()
    budget.restore(DAY, base)
    budget.sharing, budget.limit, budget.place = Sharing(), limit, "key\0"
    budget.sharing.live = True
    return budget


def ask(
    place: Place,
    name: str,
    budget: Budget,
    *,
    tick: bool = False,
    gone: frozenset[str] = frozenset(),
) -> None:
    budget.take_over(place.answer(name, budget.claim(tick=tick), gone=gone), 0)


@given(
    st.integers(1, 500),
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(1, 40), st.integers(-40, 0), st.booleans()),
        max_size=80,
    ),
)
def test_only_the_last_request_exceeds_a_budget(
    limit: int, steps: list[tuple[str, int, int, bool]]
) -> None:
    place = Place()
    budgets = {name: budget_of(limit) for name in "ab"}
    used = 0
    for name, amount, less, tick in steps:
        budget = budgets[name]
        budget.lacks(amount)
        ask(place, name, budget, tick=tick)
        if budget.has_room(limit):
            assert used < limit
            budget.add(amount)
            budget.correct(DAY, max(less, -amount))
            used += amount + max(less, -amount)
            ask(place, name, budget)  # as happens within a tenth of a second
    for _ in range(2):
        for name, budget in budgets.items():
            ask(place, name, budget, tick=True)
    for name, budget in budgets.items():
        ask(place, name, budget, tick=True)
        assert (budget.known, budget.left) == (used, 0)


def test_what_was_used_before_all_of_them_counts_once() -> None:
    place, early, late = Place(), budget_of(1000, base=100), budget_of(1000, base=150)
    ask(place, "early", early)
    early.lacks(50)
    ask(place, "early", early)
    early.add(50)
    ask(place, "late", late)  # it read in the store what the early one had used until then
    assert (early.known, late.known) == (150, 150)


def test_a_place_that_lost_everything_is_told_again() -> None:
    place, budgets = Place(), {name: budget_of(1000) for name in "abc"}
    for name, budget in budgets.items():
        budget.lacks(10)
        ask(place, name, budget)
        budget.add(10)
        ask(place, name, budget)
    del budgets["c"]
    for name, budget in budgets.items():
        ask(place, name, budget, gone=frozenset("c"))
    place = Place()
    for budget in budgets.values():
        budget.void()
        budget.add(5)
    for _ in range(2):
        for name, budget in budgets.items():
            ask(place, name, budget)
    assert {budget.known for budget in budgets.values()} == {40}


def test_a_new_day_begins_at_nothing() -> None:
    place, budget = Place(), budget_of(100, base=100)
    assert budget.lacks(10)
    claim = budget.claim(tick=False)
    budget.turn("2027-01-16")
    budget.take_over(place.answer("a", claim, gone=frozenset()), 0)
    assert (budget.known, budget.left, budget.others) == (0, 0, 0), "the answer is about yesterday"
    budget.correct(DAY, 10)
    assert budget.used == 0
