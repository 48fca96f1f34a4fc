"""`python -m benchmarks.chaos`: run it, print the table, and fail unless all answers were right."""

import argparse
import signal
import sys
from pathlib import Path

from benchmarks.chaos.report import document, table, verdict
from benchmarks.chaos.run import Settings, run

SHORT_S = 20.0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--short", action="store_true", help="20 seconds, 60 clients")
    parser.add_argument("--streams", type=int, default=200, help="concurrent clients")
    parser.add_argument("--backends", type=int, default=4)
    parser.add_argument("--slots", type=int, default=64, help="of each backend")
    parser.add_argument("--tokens-per-s", type=float, default=25.0, help="of each stream")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    options = parser.parse_args(argv)
    settings = Settings(
        duration_s=SHORT_S if options.short else options.minutes * 60,
        streams=min(options.streams, 60) if options.short else options.streams,
        backends=options.backends,
        slots=options.slots,
        tokens_per_s=options.tokens_per_s,
        seed=options.seed,
    )
    # Ended from outside, it still has to take its processes along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    outcome = run(settings)
    print(table(outcome))
    if options.json:
        options.json.write_bytes(document(outcome))
    wrong = verdict(outcome)
    for each in [*wrong, *outcome.tally.examples]:
        print(f"error: {each}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
