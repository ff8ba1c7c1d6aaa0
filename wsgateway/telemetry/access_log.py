"""One line per connect, message, disconnect and callback.

Lines of one turn of the event loop are formatted and written together: structlog's pipeline and a
write for each line would cost more than the message it reports.
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import IO, TYPE_CHECKING

import orjson
import structlog

from wsgateway.telemetry.logs import printable

if TYPE_CHECKING:
    from wsgateway.contracts import Clock

Fields = dict[str, object]


class AccessLog:
    """Writes the lines.

    Args:
        stream: Where to, in binary; None writes nothing.
        pretty: Columns for a person instead of JSON.
        clock: Stamps the lines.
    """

    def __init__(self, stream: IO[bytes] | None, *, pretty: bool, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._lines: list[Fields] = []
        self._console = structlog.dev.ConsoleRenderer() if pretty else None

    def write(self, event: str, fields: Fields) -> None:
        """Write one line at the end of this turn of the event loop.

        Args:
            event: `connect`, `message`, `disconnect` or `callback`.
            fields: What to say; the line takes the dictionary over.
        """
        if self._stream is None:
            return
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.flush)
        self._lines.append({"timestamp": self._clock.epoch_ms(), "event": event, **fields})

    def flush(self) -> None:
        """Write what is waiting."""
        lines, self._lines = self._lines, []
        if self._stream is None or not lines:
            return
        self._stream.write(b"".join(map(self._format, lines)))
        self._stream.flush()

    def _format(self, fields: Fields) -> bytes:
        at = fields["timestamp"]
        assert isinstance(at, int)
        fields["timestamp"] = _timestamp(at)
        if self._console is not None:
            text = self._console(None, "info", printable(None, "info", {"level": "info", **fields}))
            return f"{text}\n".encode()
        try:
            return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
        # A handler's error may hold what orjson refuses: lone surrogates, integers over 64 bits.
        except orjson.JSONEncodeError:
            return f"{json.dumps(fields, default=repr)}\n".encode()


# Under load there are many lines in a millisecond.
@lru_cache(maxsize=16)
def _timestamp(epoch_ms: int) -> str:
    second = datetime.fromtimestamp(epoch_ms // 1000, UTC)
    return f"{second:%Y-%m-%dT%H:%M:%S}.{epoch_ms % 1000:03}Z"
