"""Lines about the process: the form of the access log, to standard error."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from wsgateway.telemetry.logs import configure_logging, printable

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def unconfigured_afterwards() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    chatty = {name: logging.getLogger(name).level for name in ("uvicorn", "asyncio", "botocore")}
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in chatty.items():
        logging.getLogger(name).setLevel(before)


def new_logger() -> Any:
    # Made here, for a logger keeps the configuration of its first use.
    return structlog.stdlib.get_logger("tests.new")


def fail(log: Any) -> None:
    try:
        raise ValueError("no")
    except ValueError as error:
        log.error("integration failed", route="join", exc_info=error)


def test_a_line_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(pretty=False, level=logging.INFO)

    new_logger().info("stopped", seconds=0.5, text="é\ud800\n")

    captured = capsys.readouterr()
    assert captured.out == ""
    line = json.loads(captured.err)
    timestamp = line.pop("timestamp")
    assert timestamp.endswith("Z")
    assert line == {"event": "stopped", "level": "info", "seconds": 0.5, "text": "é\ud800\n"}


def test_a_traceback_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(pretty=False, level=logging.INFO)

    fail(new_logger())

    [text] = capsys.readouterr().err.splitlines()
    line = json.loads(text)
    assert line["route"] == "join"
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("ValueError: no")


def test_pretty_lines_are_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(pretty=True, level=logging.INFO)

    fail(new_logger())

    text = capsys.readouterr().err
    assert "integration failed" in text
    assert "\nValueError: no\n" in text


def test_lines_of_libraries_have_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(pretty=False, level=logging.INFO)

    logging.getLogger("some.library").warning("it is %s", "late")
    logging.getLogger("uvicorn.error").info("Started server process")

    [text] = capsys.readouterr().err.splitlines()
    line = json.loads(text)
    assert (line["event"], line["level"]) == ("it is late", "warning")


def test_lines_below_the_level_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(pretty=False, level=logging.ERROR)

    new_logger().warning("reply dropped")
    logging.getLogger("uvicorn.error").warning("late")

    assert capsys.readouterr().err == ""
    assert sys.stderr is not None


def test_what_does_not_print_is_escaped() -> None:
    fields = {"a": "plain é", "b": "\x1b[2J", "c": "x\ny", "d": 1, "e": None, "f": "\ud800"}

    assert printable(None, "info", fields) == {
        "a": "plain é",
        "b": r"\x1b[2J",
        "c": r"x\ny",
        "d": 1,
        "e": None,
        "f": r"\ud800",
    }
