"""JSON Lines logs on stderr: method, route, status and seconds of each request.

Bodies, images, tokens, ids and query strings are never logged; a route is its template
(`/v1/entries/{id}`)."""

from __future__ import annotations

import json
import logging
import time
import traceback

LOGGER = "ravlm.serving"
FIELDS = "fields"
"""Attribute of a log record with the fields of its JSON object."""
_MAX_FRAMES = 8


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object.

    Of an exception only the type and the stack are logged: its message may quote a request."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= getattr(record, FIELDS, {})
        if record.exc_info and record.exc_info[0] is not None:
            frames = traceback.extract_tb(record.exc_info[2])[-_MAX_FRAMES:]
            line["error"] = record.exc_info[0].__name__
            line["where"] = [f"{f.filename}:{f.lineno} {f.name}" for f in frames]
        return json.dumps(line, ensure_ascii=False)


def log(event: str, **fields: object) -> None:
    """Log an event with its fields."""
    logging.getLogger(LOGGER).info(event, extra={FIELDS: fields})


def start_logging() -> None:
    """Send the logs of ravlm, and the errors of uvicorn, to stderr as JSON Lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    for name, level in ((LOGGER, logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level)
