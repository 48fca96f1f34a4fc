"""The gateway's metrics: counted by `Counters`, shown as Prometheus text when somebody asks."""

from collections.abc import Callable

from arriero.core.fleet import Fleet
from arriero.telemetry.counters import Counters

# The text format that every Prometheus reads; a test holds that the library still writes it.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics(Counters):
    """What the data plane counts, and the page at `/metrics`."""

    def __init__(
        self,
        fleet_view: Callable[[], Fleet],
        lines_dropped: Callable[[], int] = int,
        queue_depths: Callable[[], tuple[int, ...]] = tuple,
    ) -> None:
        """Show the fleet of `fleet_view`.

        `lines_dropped` is asked for the access log's losses, `queue_depths` for the requests that
        wait in each class.
        """
        super().__init__(fleet_view)
        self._lines_dropped = lines_dropped
        self._queue_depths = queue_depths
        self.combine: Callable[[bytes], bytes] | None = None  # with the pages of other workers

    def render(self) -> bytes:
        """Return the page of the gateway, whatever number of workers it has."""
        page = self.page()
        return page if self.combine is None else self.combine(page)

    def page(self) -> bytes:
        """Return this process's page; the first is slower by the import of prometheus-client."""
        from arriero.telemetry.exposition import (  # noqa: PLC0415 - 78 ms not paid at the start
            page,
        )

        return page(self, self._lines_dropped(), self._queue_depths())
