"""The service's own log: JSON lines on stderr through the standard library's logging.

Any module may say `logging.getLogger("arriero.fleet").warning("backend ejected", extra={...})`;
what is in `extra` becomes fields of the line. The events and their fields are in docs/logs.md.
"""

import logging
from typing import IO

import msgspec

from arriero.telemetry.timestamp import rfc3339_ms

LINE_BYTES_MAX = 32_768  # a traceback of a deep recursion is longer than anyone reads
LOGGER = "arriero"

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a record: time, level, logger, event, the extras, and a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its newline."""
        fields: dict[str, object] = {
            "time": rfc3339_ms(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        extras = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        fields.update((name, value) for name, value in extras.items() if name not in fields)
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return _encode(fields)


def configure(level: str, stream: IO[str] | None = None) -> logging.Logger:
    """Send the events of `level` and above to `stream` (stderr); return arriero's logger.

    Calling it again replaces the level and the stream, so that a reload can. What libraries warn of
    (asyncio of an exception nobody asked for) goes there, too: a line that is no JSON breaks those
    who read the log.
    """
    logger = logging.getLogger(LOGGER)
    logger.handlers = [_handler(stream)]
    logger.setLevel(level.upper())
    logger.propagate = False
    logging.lastResort = _handler(stream)
    logging.lastResort.setLevel(logging.WARNING)
    return logger


def _handler(stream: IO[str] | None) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    return handler


def _encode(fields: dict[str, object]) -> str:
    clean = {name: _value(value) for name, value in fields.items()}
    line = msgspec.json.encode(clean)
    if len(line) > LINE_BYTES_MAX:
        share = LINE_BYTES_MAX // (8 * len(clean))  # a character is at most 6 bytes when escaped
        line = msgspec.json.encode({name: str(value)[-share:] for name, value in clean.items()})
    return line.decode()


def _value(value: object) -> bool | int | float | str | None:
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")
