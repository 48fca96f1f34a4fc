"""Reading `/metrics` as a client: counters and histograms between two readings."""

import math
from collections.abc import Mapping, Sequence

import msgspec
from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]


class Readings(msgspec.Struct, frozen=True):
    """All samples of one reading, by name and labels."""

    samples: dict[tuple[str, Labels], float]

    def total(self, name: str, **labels: str) -> float:
        """Return the sum over all samples of a name that have at least these labels."""
        wanted = labels.items()
        return sum(
            value
            for (known, own), value in self.samples.items()
            if known == name and wanted <= set(own)
        )

    def by(self, name: str, label: str) -> dict[str, float]:
        """Return the sums over all samples of a name for each value of a label."""
        found: dict[str, float] = {}
        for (known, own), value in self.samples.items():
            if known == name and (of := dict(own).get(label)) is not None:
                found[of] = found.get(of, 0.0) + value
        return found

    def since(self, before: "Readings") -> "Readings":
        """Return what was added since; a counter that fell began anew, and counts from zero."""
        gained = {}
        for name, value in self.samples.items():
            old = before.samples.get(name, 0.0)
            gained[name] = value - old if value >= old else value
        return Readings(gained)


def read(text: str) -> Readings | None:
    """Return the samples of a page, None when it is none."""
    try:
        return Readings(
            {
                (sample.name, frozenset(sample.labels.items())): float(sample.value)
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
        )
    except ValueError:
        return None


def quantile_bound(buckets: Mapping[float, float], share: float) -> float | None:
    """Return the smallest bound that at least this share of values does not exceed.

    `buckets` are cumulative counts by upper bound. None when nothing was counted, infinite when
    the share lies beyond the last bound. No value is made up between two bounds.
    """
    total = max(buckets.values(), default=0.0)
    if total <= 0:
        return None
    reached = [bound for bound, count in sorted(buckets.items()) if count >= share * total]
    return reached[0] if reached else math.inf


def buckets(readings: Readings, histogram: str) -> dict[float, float]:
    """Return a histogram's cumulative counts by bound, summed over its labels."""
    return {
        float(bound): count for bound, count in readings.by(f"{histogram}_bucket", "le").items()
    }


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of the values that at least this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
