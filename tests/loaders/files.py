"""Writing folders of handlers."""

from __future__ import annotations

import os
from textwrap import dedent
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HANDLER = "def handler(event, context): return {'statusCode': 200}\n"


def write(folder: Path, files: dict[str, str]) -> None:
    """Write files by their path in the folder."""
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text), encoding="utf-8")


def write_unnoticed(file: Path, text: str) -> None:
    """Write a file of the same size, and give it the time stamps it had."""
    before = file.stat()
    file.write_text(text, encoding="utf-8")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
