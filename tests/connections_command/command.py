"""The command, run in this process: one of its own takes half a second to start."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from tests.e2e.process import write_app
from wsgateway.cli import app
from wsgateway.connections_command import commands

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

WHO = """\
    async def handler(event, context):
        return {"statusCode": 200, "body": event["requestContext"]["connectionId"]}
"""


def command_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `run` run in a folder with an API, without other settings, and leave logging as it is."""
    for name in os.environ:
        if name.startswith("WSGATEWAY_"):
            monkeypatch.delenv(name)
    write_app(folder / "routes", {"who.py": WHO})
    monkeypatch.chdir(folder)
    monkeypatch.setattr(commands, "configure_logging", lambda **_: None)


def run(*arguments: str, **variables: str) -> tuple[int, str, str]:
    """Return exit code, output and errors; not to be called where an event loop runs."""
    ran = CliRunner().invoke(
        app, ["connections", *arguments], env=variables, catch_exceptions=False
    )
    return ran.exit_code, ran.stdout, ran.stderr
