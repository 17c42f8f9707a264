"""The log: lines for people, or JSON for programs."""

from __future__ import annotations

import logging
from typing import Any, Literal

from pythonjsonlogger.json import JsonFormatter


class TextFormatter(logging.Formatter):
    """The time and the sentence; the level only where something is amiss."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the base's name
        """Word one line."""
        level = "" if record.levelno <= logging.INFO else f"{record.levelname} "
        return f"{record.asctime} {level}{record.message}"


class JsonLines(JsonFormatter):
    """One JSON object a line, with all that a record carries besides."""

    def __init__(self) -> None:
        super().__init__(
            "{asctime}{levelname}{name}{message}",
            "%Y-%m-%dT%H:%M:%S%z",
            style="{",
            rename_fields={
                "asctime": "time",
                "levelname": "level",
                "name": "logger",
                "exc_info": "exception",
            },
            json_ensure_ascii=False,
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Word the level as the broker does."""
        return log_data | {"level": log_data["level"].lower()}


def logging_config(form: Literal["text", "json"]) -> dict[str, Any]:
    """Describe a log on standard output in this form, gunicorn's own lines included."""
    formatter = JsonLines if form == "json" else TextFormatter
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": formatter}},
        "handlers": {
            "stdout": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": "line",
            }
        },
        "root": {"level": "INFO", "handlers": ["stdout"]},
        "loggers": {
            "gunicorn.error": {"level": "INFO", "handlers": [], "propagate": True},
            # These two tell of every request and every mail.
            "httpx": {"level": "WARNING"},
            "apprise": {"level": "WARNING"},
        },
    }
