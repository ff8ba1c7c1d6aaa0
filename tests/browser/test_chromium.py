"""Where the browser of these tests comes from."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import chromium

if TYPE_CHECKING:
    from pathlib import Path


class Machine:
    """A machine with these commands; installing chromium succeeds or not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *commands: str, root: bool) -> None:
        self.commands = set(commands)
        self.ran: list[str] = []
        self.package_can_be_had = False
        monkeypatch.setattr(shutil, "which", lambda name: name if name in self.commands else None)
        monkeypatch.setattr(subprocess, "run", self._run)
        monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)

    def _run(self, command: tuple[str, ...], **_: Any) -> None:
        self.ran.append(" ".join(command[:2]))
        if command[1] == "install" and self.package_can_be_had:
            self.commands.add("chromium")


@pytest.mark.parametrize("name", ["chromium", "chromium-browser", "google-chrome"])
def test_the_machines_own_comes_first(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    machine = Machine(monkeypatch, name, "apt-get", root=True)

    assert chromium.find_chromium("/nowhere") == name
    assert machine.ran == []


def test_root_installs_debians(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, "apt-get", root=True)
    machine.package_can_be_had = True

    assert chromium.find_chromium("/nowhere") == "chromium"
    assert machine.ran == ["apt-get install"]


def test_playwrights_is_taken_when_there_is_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = Machine(monkeypatch, "apt-get", root=False)
    downloaded = tmp_path / "chrome"
    downloaded.touch()

    assert chromium.find_chromium(str(downloaded)) == str(downloaded)
    assert machine.ran == []


def test_without_any_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, "apt-get", root=True)

    with pytest.raises(RuntimeError, match="playwright install chromium"):
        chromium.find_chromium("/nowhere")

    assert machine.ran == ["apt-get install", "apt-get update", "apt-get install"]
