"""A request's record: a fresh one says that nothing has happened."""

from arriero.core.record import Record


def test_a_fresh_record_claims_nothing() -> None:
    record = Record()
    assert (record.status, record.attempts, record.outcome) == (0, 0, "")
    assert record.first_token_s < 0
    assert record.prompt_tokens == record.completion_tokens == record.cached_tokens == 0


def test_records_do_not_share_anything() -> None:
    one, other = Record(), Record()
    one.alias = "chat"
    one.attempts += 1
    assert (other.alias, other.attempts) == ("", 0)
