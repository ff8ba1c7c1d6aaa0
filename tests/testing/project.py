"""A project of a user, tested in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a run of pytest."""

    returncode: int
    output: str

    @property
    def passed(self) -> int:
        found = re.search(r"(\d+) passed", self.output)
        return int(found[1]) if found else 0


def run_pytest(folder: Path, *arguments: str, without: str | None = None) -> Run:
    """Run the tests of a folder with our plugin and pytest-asyncio, and every warning as an error.

    Args:
        folder: With its own configuration file.
        arguments: More of pytest's.
        without: A package that is as if it were not installed.
    """
    # As plugins by name: the package may be installed, or only importable.
    plugins = ["pytest_asyncio.plugin", "wsgateway.pytest_plugin"]
    if without == "pytest_asyncio":
        del plugins[0]
    options = [item for name in plugins for item in ("-p", name)]
    start = f"import sys; sys.modules[{without!r}] = None; " if without else "import sys; "
    ran = subprocess.run(
        [
            *(sys.executable, "-c", f"{start}import pytest; sys.exit(pytest.main(sys.argv[1:]))"),
            *options,
            *("-p", "no:cacheprovider", "-W", "error", *arguments, str(folder)),
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder.parent,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
    )
    return Run(ran.returncode, ran.stdout + ran.stderr)
