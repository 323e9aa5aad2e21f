"""Log lines, for eyes or as JSON: each knows its turn, and none holds a secret."""

from __future__ import annotations

import json as json_lines
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from ...skills.errors import BadConfiguration
from .masking import masked
from .tracing import current_turn, trace_id

__all__ = ["setup_logging"]

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_TALKATIVE = ("alembic", "httpx", "httpcore", "asyncio", "multipart", "python_multipart")
"""Libraries that log every request or statement at INFO or DEBUG, with its address or values."""


def setup_logging(json: bool = False, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Write the log of the whole process to `stream`, which is standard error if it is None.

    With `json` a line is an object of `time` (UTC), `level`, `logger`, `message`, the ids
    `conversation`, `turn` and `trace` where there are any, and the fields of events. A second
    call takes the place of the first. Raises `BadConfiguration`.
    """
    name = level.upper()
    if name not in _LEVELS:
        raise BadConfiguration(f"there is no log level {level!r}; there is: {', '.join(_LEVELS)}")
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(_JsonLines() if json else _ReadableLines())
    root = logging.getLogger()
    for earlier in [earlier for earlier in root.handlers if isinstance(earlier, _Handler)]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(name)
    for library in _TALKATIVE:
        logging.getLogger(library).setLevel(logging.WARNING)


class _Handler(logging.StreamHandler[TextIO]):
    """Tells our handler from others'."""


class _JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": masked(record.getMessage()),
            **_ids(),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = masked(self.formatException(record.exc_info))
        return json_lines.dumps(line, ensure_ascii=False, default=str)


class _ReadableLines(logging.Formatter):
    """One line for eyes, and below it the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        # What others wrote into a message must not look like a line of its own.
        message = _CONTROL.sub(lambda found: repr(found[0])[1:-1], masked(record.getMessage()))
        ids = "".join(f" {name}={value}" for name, value in _ids().items())
        line = f"{_time(record)} {record.levelname} {record.name}: {message}{ids}"
        if record.exc_info:
            line += "\n" + masked(self.formatException(record.exc_info))
        return line


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as `extra={"fields": {...}}`."""
    given: dict[str, Any] = getattr(record, "fields", {})
    return {
        name: masked(value) if isinstance(value, str) else value for name, value in given.items()
    }


def _ids() -> dict[str, str]:
    """The ids of what the thread or task that logs works at; formatting happens in it."""
    conversation, turn = current_turn()
    ids = {"conversation": conversation, "turn": turn, "trace": trace_id()}
    return {name: value for name, value in ids.items() if value}
