"""Finding a Chromium to drive: the machine's, Debian's, or the one that Playwright downloads."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_INSTALLATIONS = (
    ("apt-get", "install", "--yes", "--no-install-recommends", "chromium"),
    ("apt-get", "update"),
    ("apt-get", "install", "--yes", "--no-install-recommends", "chromium"),
)

FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
    # Chromium's sandbox does not start for root.
    *(["--no-sandbox"] if os.geteuid() == 0 else []),
)


def find_chromium(downloaded: str) -> str:
    """Return the path of a Chromium, and install one if there is none and that is allowed.

    Args:
        downloaded: Where Playwright puts its own.

    Raises:
        RuntimeError: There is none; the message says how to get one.
    """
    found = _on_path()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        found = _install()
    if found is None and Path(downloaded).is_file():
        found = downloaded
    if found is None:
        raise RuntimeError(
            "these tests need Chromium: install your system's package, "
            "or let Playwright download one with: playwright install chromium"
        )
    return found


def _on_path() -> str | None:
    return next(filter(None, map(shutil.which, _NAMES)), None)


def _install() -> str | None:
    # Tests run in several processes, and apt-get in one at a time.
    with (Path(tempfile.gettempdir()) / "wsgateway-chromium.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in _INSTALLATIONS:
            if (found := _on_path()) is not None:
                return found
            environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, check=False)
    return _on_path()
