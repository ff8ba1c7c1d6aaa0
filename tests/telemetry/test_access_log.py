"""The lines: what they look like, and what cannot break them."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from tests.fakes import ManualClock
from tests.listener.raw import nothing_unhandled
from wsgateway.telemetry.access_log import AccessLog

FIELDS = {"connection_id": "AQIDEBESExQCFRY=", "route": "join", "status": 200, "latency_ms": 0.125}


def written(*lines: dict[str, Any], pretty: bool = False) -> str:
    """Return what these lines come to when they are written in one turn of the loop."""
    stream = io.BytesIO()
    log = AccessLog(stream, pretty=pretty, clock=ManualClock())
    log._lines = [{"timestamp": 1708326702789, "event": "message", **line} for line in lines]
    log.flush()
    return stream.getvalue().decode()


def test_a_line_is_json() -> None:
    assert written(FIELDS) == (
        '{"timestamp":"2024-02-19T07:11:42.789Z","event":"message",'
        '"connection_id":"AQIDEBESExQCFRY=","route":"join","status":200,"latency_ms":0.125}\n'
    )


def test_a_pretty_line_is_for_a_person() -> None:
    line = written(FIELDS, pretty=True)

    assert line.count("\n") == 1
    for part in ("2024-02-19T07:11:42.789Z", "message", "AQIDEBESExQCFRY=", "join", "0.125"):
        assert part in line


@pytest.mark.parametrize("pretty", [False, True])
@pytest.mark.parametrize(
    "value",
    [
        "\ud800",
        "a\ud800\n\x1b[31m\x00",
        "\r\n\u2028\x85",
        1 << 70,
        -(1 << 70),
        float("nan"),
        "x" * 1_000_000,
        None,
        {"a": ["\ud800"]},
    ],
    ids=lambda value: f"{value!r:.20}",
)
def test_no_value_breaks_a_line_or_its_neighbours(value: object, *, pretty: bool) -> None:
    text = written({"status": 1}, {"error": value}, {"status": 3}, pretty=pretty)

    *lines, end = text.split("\n")
    assert len(lines) == 3
    assert end == ""
    if not pretty:
        assert [json.loads(line)["event"] for line in lines] == ["message"] * 3


@pytest.mark.parametrize("value", ["\x1b[2J", "a\x1b]0;b\x07", "\x9b2J", "a\nb", "\u202e"])
def test_what_a_client_sends_cannot_steer_the_terminal(value: str) -> None:
    plain = written({"reason": "x"}, pretty=True)
    hostile = written({"reason": value}, pretty=True)

    for control in ("\x1b", "\x07", "\x9b", "\n", "\u202e"):
        assert hostile.count(control) == plain.count(control)


def test_a_value_that_is_no_json_is_told_as_text() -> None:
    line = json.loads(written({"error": "\ud800", "odd": {1, 2}}))

    assert line["error"] == "\ud800"
    assert line["odd"] == "{1, 2}"


async def test_lines_of_one_turn_are_written_together() -> None:
    class Stream(io.BytesIO):
        writes = 0

        def write(self, data: Any) -> int:
            self.writes += 1
            return super().write(data)

    stream, clock = Stream(), ManualClock()
    log = AccessLog(stream, pretty=False, clock=clock)
    with nothing_unhandled():
        log.write("message", {"status": 1})
        log.write("message", {"status": 2})
        assert stream.writes == 0
        log.flush()
        assert stream.writes == 1
        clock.advance(1.5)
        log.write("connect", {"status": 3})
        log.flush()
        # There is nothing left for the turns that the first two lines have asked for.
        log.flush()

    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line["status"]) for line in lines] == [
        ("message", 1),
        ("message", 2),
        ("connect", 3),
    ]
    assert lines[2]["timestamp"] == "2024-02-19T07:11:44.289Z"


async def test_nowhere_to_write_is_nothing_to_do() -> None:
    log = AccessLog(None, pretty=False, clock=ManualClock())

    log.write("message", {"status": 1})
    log.flush()

    assert log._lines == []
