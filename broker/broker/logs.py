"""Logging: one line an event, JSON for programs or text for people."""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

# The id of the request that is being served.
asked: ContextVar[bytes | None] = ContextVar("asked", default=None)

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


def configure_logging(level: str, format_: str) -> None:
    """Send every record to standard output, at `level` and above."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines() if format_ == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("gunicorn", "gunicorn.error", "gunicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(max(logging.getLevelName(level.upper()), logging.INFO))


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, message, and what the record carries besides."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record."""
        line = {
            "time": _time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_carried(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextLines(logging.Formatter):
    """One line a record for people; what an exception adds follows it."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record."""
        told = " ".join(
            f"{name}={value}" for name, value in _carried(record).items() if name != "action"
        )
        line = f"{_time_of(record)} {record.levelname.lower():8} {record.getMessage()} {told}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line.rstrip()


def _carried(record: logging.LogRecord) -> dict[str, object]:
    carried = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    if (request_id := asked.get()) is not None:
        carried.setdefault("request_id", request_id.decode())
    return carried


def _time_of(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
