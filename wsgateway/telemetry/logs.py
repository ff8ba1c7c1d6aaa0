"""Log lines about the process: structlog to standard error, in the form of the access log."""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logging(*, pretty: bool, level: int) -> None:
    """Set up structlog and the standard library's root logger for this process.

    Args:
        pretty: Columns and coloured tracebacks for a person instead of JSON.
        level: The lowest level to print, as in `logging`.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[structlog.typing.Processor] = (
        [
            printable,
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
        ]
        if pretty
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    # uvicorn tells of each start and stop, and botocore of each client, what nobody asked for.
    for chatty in ("uvicorn", "asyncio", "botocore"):
        logging.getLogger(chatty).setLevel(max(level, logging.WARNING))


def printable(_: object, __: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Escape what does not print: a client's close reason must not steer the terminal."""
    return {
        name: "".join(map(_escaped, value))
        if isinstance(value, str) and not value.isprintable()
        else value
        for name, value in fields.items()
    }


def _escaped(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]
