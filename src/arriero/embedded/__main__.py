"""`python -m arriero.embedded --port N`: one server of the embedded fleet."""

import argparse
import importlib
import sys

from arriero.embedded.package import MODEL_NAME, ExtraMissing, require_all
from arriero.embedded.parent import ParentGone, die_with_parent


def main(arguments: list[str] | None = None) -> int:
    """Run the server; return 0 after a regular end and 1 when it cannot run, said on stderr."""
    options = _parser().parse_args(arguments)
    try:
        if options.parent_pid is not None:
            die_with_parent(options.parent_pid)
        gguf = require_all()
        # Imported late, because it imports numpy: what is missing has to be told first.
        process = importlib.import_module("arriero.embedded.process")
        process.run(gguf, options.name, options.host, options.port)
    except ParentGone:
        return 0
    except (ExtraMissing, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m arriero.embedded", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--name", default=MODEL_NAME, help="the model's name in the API")
    parser.add_argument("--parent-pid", type=int, help="end when the parent, this one, ends")
    return parser


if __name__ == "__main__":
    sys.exit(main())
