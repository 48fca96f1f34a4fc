"""The metrics of all workers on one page.

Each worker writes its page to a file once a second; whoever is asked adds the others' to its own.
What a worker counted that has ended stays counted: a counter that went back would look to
Prometheus like one that began anew, and all of it would be counted twice.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

INTERVAL_S: Final = 1.0
_GONE: Final = "gone"
# Facts that all workers know, each a little earlier or later than the others: the largest is told.
_FACTS: Final = (
    "_state",
    "_installed",
    "_resident",
    "_info",
    "_up",
    "arriero_model_memory_bytes",
    "process_max_fds",
    "process_start_time_seconds",
)


class Pages:
    """The pages of all workers, as one of them sees them; number -1 is the supervisor."""

    def __init__(self, folder: Path, index: int) -> None:
        self._folder = folder
        self._own = folder / f"{index}.page"

    async def run(self, page: Callable[[], bytes]) -> None:
        """Write this worker's page every second, until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            _write(self._own, page())

    def combine(self, own: bytes) -> bytes:
        """Return the page of all workers."""
        others = [path for path in sorted(self._folder.glob("*.page")) if path != self._own]
        return add_up([own, *_read(others)])

    def retire(self, index: int) -> None:
        """Keep what a worker counted that has ended, and forget what it was doing."""
        gone, page = self._folder / f"{_GONE}.page", self._folder / f"{index}.page"
        _write(gone, add_up(_read([gone, page]), gauges=False))
        page.unlink(missing_ok=True)


def _read(paths: Iterable[Path]) -> list[bytes]:
    pages = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # its worker has just ended
            pages.append(path.read_bytes())
    return pages


def _write(path: Path, page: bytes) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(page)
    fresh.replace(path)


def add_up(pages: Iterable[bytes], *, gauges: bool = True) -> bytes:
    """Return one page of Prometheus text; the pages are those of one program.

    Counters, histograms and most gauges are sums; of facts about backends it is the largest.
    """
    heads: dict[str, list[str]] = {}  # of a family: its HELP and TYPE
    values: dict[str, dict[str, float]] = {}  # of a family: its samples
    for page in pages:
        family = ""
        for line in page.decode().splitlines():
            if line.startswith("#"):
                family = line.split(" ", 3)[2]
                values.setdefault(family, {})
                head = heads.setdefault(family, [])
                if line not in head:
                    head.append(line)
                continue
            sample, _, figure = line.rpartition(" ")
            known = values[family].get(sample)
            value = float(figure)
            if known is not None:
                value = max(known, value) if family.endswith(_FACTS) else known + value
            values[family][sample] = value
    lines = []
    for family, head in heads.items():
        if gauges or not head[-1].endswith(" gauge"):
            lines += [*head, *(f"{sample} {value!r}" for sample, value in values[family].items())]
    return "".join(f"{line}\n" for line in lines).encode()
