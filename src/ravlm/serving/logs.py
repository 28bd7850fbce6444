"""Logs as JSON, a line an event, to stderr: what was asked of which route, how it ended, how long
it took.

Bodies, pictures, tokens, ids and query strings never enter a line: a route is named by its
template."""

from __future__ import annotations

import json
import logging
import time
import traceback

LOGGER = "ravlm.serving"
FIELDS = "fields"


class JsonLines(logging.Formatter):
    """A record as one JSON object. Of an exception its kind and where it arose: its words may quote
    a body."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
        }
        line |= {"event": record.getMessage()} | getattr(record, FIELDS, {})
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["where"] = [
                f"{f.filename}:{f.lineno} {f.name}"
                for f in traceback.extract_tb(record.exc_info[2])
            ][-8:]
        return json.dumps(line, ensure_ascii=False)


def log(event: str, **fields: object) -> None:
    """Write a line."""
    logging.getLogger(LOGGER).info(event, extra={FIELDS: fields})


def start_logging() -> None:
    """Let our lines, and uvicorn's of errors, go to stderr as JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    for name, level in ((LOGGER, logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
