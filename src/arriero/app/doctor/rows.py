"""The table: every row, in the order in which one would look."""

from collections.abc import Callable, Iterator

from arriero.app.doctor import fleet_rows, gateway_rows, host_rows
from arriero.app.doctor.diagnosis import Diagnosis
from arriero.app.doctor.facts import Facts

Row = Callable[[Facts], Iterator[Diagnosis]]

ROWS: tuple[Row, ...] = (
    gateway_rows.not_listening,
    host_rows.unit,
    host_rows.configuration,
    host_rows.master_key,
    gateway_rows.unauthorized,
    gateway_rows.no_models,
    fleet_rows.backends,
    fleet_rows.missing,
    fleet_rows.latency,
    fleet_rows.drift,
    fleet_rows.open_port,
    gateway_rows.clocks,
    gateway_rows.certificate,
)


def diagnose(facts: Facts) -> list[Diagnosis]:
    """Return what every row says to these facts."""
    return [diagnosis for row in ROWS for diagnosis in row(facts)]
