"""The chat behind a gateway in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

ROUTES = Path(__file__).parents[2] / "routes"
TIMEOUT_S = 15.0


class Chat:
    """The chat behind a gateway in a process of its own.

    Attributes:
        page_url: What `serve` says to open.
        port: The same one after a restart.
    """

    def __init__(self, folder: Path) -> None:
        self.page_url = ""
        self.port = 0
        self._folder = folder
        self._environ: dict[str, str] = {}
        self._process: subprocess.Popen[str] | None = None

    def start(self, **environ: str) -> None:
        """Start it; variables stay set for later starts."""
        self._environ |= environ
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "CHAT_", "WSGATEWAY_"))
        }
        with (self._folder / "stderr").open("ab") as errors:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "wsgateway.cli"),
                    *("serve", str(ROUTES), "--port", str(self.port)),
                ],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=self._folder,
                env=kept | {"HOME": str(self._folder)} | self._environ,
            )
        assert self._process.stdout is not None
        ready_line = self._process.stdout.readline()
        assert ready_line.startswith("wsgateway is ready: "), self.errors
        self.page_url = ready_line.split()[-1]
        self.port = int(self.page_url.split("/")[2].rpartition(":")[2])

    def stop(self) -> None:
        """Stop it as an operator does."""
        process = self._process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(TIMEOUT_S) == 0
        finally:
            self.kill()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    @property
    def errors(self) -> str:
        return (self._folder / "stderr").read_text(encoding="utf-8")
