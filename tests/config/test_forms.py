"""Notations of values: what they mean, and what they refuse."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.config import forms
from arriero.config.forms import NotThisForm
from arriero.config.tree import Scalar

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=40))


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(31, 31), (0.5, 0.5), ("30", 30), ("2.5", 2.5), ("30s", 30), ("5m", 300), ("1h30m", 5400),
     ("250ms", 0.25), ("1d", 86_400), ("0.5h", 1800)],
)  # fmt: skip
def test_durations(written: Scalar, seconds: float) -> None:
    assert forms.duration(written) == seconds


@pytest.mark.parametrize(
    "written", ["", "s", "5 minutes", "-5s", "5S", "1e3", True, None, float("nan"), float("inf"),
                10**400, "9" * 40, "٣s"],
)  # fmt: skip
def test_what_is_no_duration(written: Scalar) -> None:
    with pytest.raises(NotThisForm):
        forms.duration(written)


@pytest.mark.parametrize(
    ("written", "count"),
    [(65_536, 65_536), ("64KiB", 65_536), ("64 KiB", 65_536), ("10MB", 10_000_000),
     ("1.5GiB", 1_610_612_736), ("512B", 512), ("2048", 2048), ("1kB", 1000)],
)  # fmt: skip
def test_sizes(written: Scalar, count: int) -> None:
    assert forms.size(written) == count


@pytest.mark.parametrize("written", ["", "MiB", "64 kib", "64iB", "1TB", True, None, 1.5, "-1MB"])
def test_what_is_no_size(written: Scalar) -> None:
    with pytest.raises(NotThisForm):
        forms.size(written)


@pytest.mark.parametrize(
    ("written", "meant"),
    [(300, 300), (-1, -1), (0, 0), ("10m", "10m"), ("1h30m", "1h30m"), ("-1m", "-1m"),
     # Ollama refuses a text without a unit; what was meant is clear.
     ("-2", -2), ("3600", 3600)],
)  # fmt: skip
def test_keep_alive(written: Scalar, meant: int | str) -> None:
    assert forms.keep_alive(written) == meant


@pytest.mark.parametrize("written", ["forever", "5 minutes", "1d", "", True, None, 1.5, 10**9])
def test_what_is_no_keep_alive(written: Scalar) -> None:
    with pytest.raises(NotThisForm):
        forms.keep_alive(written)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("http://gpu1:11434", "http://gpu1:11434"),
        ("http://gpu1:11434/", "http://gpu1:11434"),
        ("HTTP://GPU1.Lan:11434//", "http://gpu1.lan:11434"),
        ("https://host/v1", "https://host/v1"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://192.168.10.5:11434", "http://192.168.10.5:11434"),
        (" http://a ", "http://a"),
    ],
)
def test_urls(written: str, kept: str) -> None:
    assert forms.url(written) == kept
    assert forms.url(kept) == kept


@pytest.mark.parametrize(
    "written",
    ["", "gpu1:11434", "ftp://gpu1", "http://", "http:///v1", "http://a b", "http://a:0",
     "http://a:65536", "http://a:99999999", "http://user:pass@a", "http://a?x=1", "http://a#x",
     "http://ä", "http://-a", "http://a\nb", 5, None],
)  # fmt: skip
def test_what_is_no_url(written: Scalar) -> None:
    with pytest.raises(NotThisForm) as caught:
        forms.url(written)
    assert "pass" not in caught.value.expected.replace("password", "")


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://a:11434", ("a", 11_434, "")),
        ("https://a.b", ("a.b", None, "")),
        ("http://[::1]:80/v1", ("::1", 80, "/v1")),
    ],
)
def test_a_checked_url_comes_apart(url: str, parts: tuple[str, int | None, str]) -> None:
    assert forms.split_url(url) == parts


@pytest.mark.parametrize("form", forms.FORMS.values(), ids=forms.FORMS.keys())
@given(value=SCALARS)
def test_any_value_is_of_the_form_or_refused(form: object, value: Scalar) -> None:
    assert callable(form)
    with contextlib.suppress(NotThisForm):
        assert form(value) is not None
