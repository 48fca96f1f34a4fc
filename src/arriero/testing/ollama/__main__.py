"""The simulation as a process: `python -m arriero.testing.ollama --model llama3:8b`."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from arriero.testing.faults import Fault
from arriero.testing.ollama.models import SimModel
from arriero.testing.ollama.settings import Settings
from arriero.testing.ollama.sim import OllamaSim

_EXAMPLES = """\
examples:
  python -m arriero.testing.ollama --port 11434 --model llama3:8b
  python -m arriero.testing.ollama --model qwen3:8b,capabilities=completion+tools+thinking
  python -m arriero.testing.ollama --model llama3:8b,load_s=20,decode_tps=30 --num-parallel 2
  python -m arriero.testing.ollama --model llama3:8b --fault kind=reset_mid,after=5,probability=0.1
"""


def model(text: str) -> SimModel:
    """Read `NAME[,FIELD=VALUE...]`; several capabilities are joined by `+`."""
    name, *settings = text.split(",")
    try:
        return SimModel(name, **dict(_assigned(SimModel, part) for part in settings))
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from None


def fault(text: str) -> Fault:
    """Read `kind=KIND[,FIELD=VALUE...]`."""
    try:
        given = dict(part.split("=", 1) for part in text.split(","))
        return msgspec.convert(given, Fault, strict=False)
    except (ValueError, msgspec.ValidationError) as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from None


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m arriero.testing.ollama",
        description="Simulate one Ollama host.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=11434, help="0 takes a free one")
    parser.add_argument("--model", type=model, action="append", default=[], dest="models")
    parser.add_argument(
        "--registry",
        type=model,
        action="append",
        default=[],
        help="a model that is not here, but can be pulled",
    )
    parser.add_argument("--pulled", type=Path, help="a file that remembers what was pulled")
    parser.add_argument("--fault", type=fault, action="append", default=[], dest="faults")
    for setting in fields(Settings):
        flag = "--" + setting.name.replace("_", "-")
        parser.add_argument(flag, type=_reader(setting.default), default=setting.default)
    return parser.parse_args(argv)


def remembered(path: Path | None) -> list[str]:
    """Return the names of the models that were pulled before this start."""
    return path.read_text(encoding="utf-8").split() if path and path.exists() else []


def remember(path: Path | None, pulled: SimModel) -> None:
    """Note that a model was pulled."""
    if path:
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{pulled.name}\n")


async def serve(options: argparse.Namespace) -> None:
    """Run until SIGINT or SIGTERM."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    settings = {setting.name: getattr(options, setting.name) for setting in fields(Settings)}
    sim = OllamaSim(options.models, host=options.host, port=options.port, **settings)
    for published in options.registry:
        sim.publish(published, partial(remember, options.pulled))
        if published.name in remembered(options.pulled):
            sim.install(published)
    for wanted in options.faults:
        sim.faults.add(wanted)
    async with sim:
        sys.stdout.write(f"{sim.url}\n")
        sys.stdout.flush()
        await stopped.wait()


def _assigned(kind: type[SimModel], part: str) -> tuple[str, Any]:
    name, equals, value = part.partition("=")
    known = {field.name: field for field in fields(kind)}
    if not equals or name not in known:
        raise ValueError(f"no such field: {name} (hint: one of {', '.join(sorted(known))})")
    if name == "capabilities":
        return name, tuple(value.split("+"))
    return name, _reader(known[name].default)(value)


def _reader(default: object) -> Any:
    if isinstance(default, bool):
        return lambda text: text.lower() in {"1", "true", "yes"}
    return type(default) if isinstance(default, int | float) else str


if __name__ == "__main__":
    asyncio.run(serve(arguments(sys.argv[1:])))
