"""Nothing is used of a common limit that was not granted, and nothing that was granted is lost."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from arriero.core.shares import Claim, Grant, Share, Sharing


class Book:
    """The common place: it adds up and grants what is left, as the script does."""

    def __init__(self) -> None:
        self.used: Counter[str] = Counter()

    def answer(self, gateway: str, claim: Claim) -> Grant:
        if claim.afresh:
            self.used[gateway] = 0
        self.used[gateway] += sum(amount for _, amount in claim.changes)
        granted = max(0, min(claim.want, claim.limit - self.used.total()))
        self.used[gateway] += granted
        return Grant(granted, self.used.total() - self.used[gateway], 1.0)


def share_of(limit: int) -> Share:
    sharing = Sharing()
    sharing.live = True
    return sharing.share("requests\0key\0", limit)


def ask(book: Book, gateway: str, share: Share, *, tick: bool) -> None:
    share.take_over(book.answer(gateway, share.claim(tick=tick)), 100)


@given(
    st.integers(1, 500),
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 40), st.booleans()), max_size=80),
)
def test_the_gateways_together_never_exceed_the_limit(
    limit: int, steps: list[tuple[str, int, bool]]
) -> None:
    book = Book()
    shares = {name: share_of(limit) for name in "ab"}
    used = 0
    for name, amount, tick in steps:
        share, most = shares[name], min(amount, limit)
        if share.left < most:
            share.want(most)
        ask(book, name, share, tick=tick)
        if share.left >= most:
            share.take(most)
            used += most
        assert used <= limit
        assert book.used.total() == used + sum(one.left for one in shares.values())
    for _ in range(2):
        for name, share in shares.items():
            ask(book, name, share, tick=True)
    for name, share in shares.items():  # what a last tick was granted in advance
        ask(book, name, share, tick=True)
        assert share.left == 0
    assert book.used.total() == used


def test_who_uses_much_is_granted_a_hundredth_in_advance() -> None:
    book, share = Book(), share_of(1000)
    share.want(50)
    ask(book, "a", share, tick=False)
    assert share.left == 50
    share.take(50)
    ask(book, "a", share, tick=True)
    assert share.left == 10
    ask(book, "a", share, tick=True)
    assert (share.left, share.idle) == (0, True)


def test_what_was_settled_later_is_told() -> None:
    book, share = Book(), share_of(1000)
    share.want(256)
    ask(book, "a", share, tick=False)
    share.take(256)
    share.correct(100.0, -200)
    assert not share.idle
    ask(book, "a", share, tick=False)
    assert book.used["a"] == 56


def test_a_request_larger_than_the_limit_is_counted_whole() -> None:
    book, share = Book(), share_of(100)
    share.want(100)
    ask(book, "a", share, tick=False)
    share.take(300)
    ask(book, "a", share, tick=False)
    assert (share.left, book.used["a"]) == (0, 300)


def test_after_a_loss_only_what_was_used_counts() -> None:
    book, share = Book(), share_of(100)
    share.want(60)
    ask(book, "a", share, tick=False)
    share.take(20)
    share.take_over(book.answer("a", share.afresh([(5, 20), (6, 3)])), 100)
    assert (share.left, book.used["a"]) == (0, 23)
