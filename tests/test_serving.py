"""What a process that serves does when the system refuses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from wsgateway.loaders.folder import HandlerFolder
from wsgateway.serving import reload_changes

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

HANDLER = "def handler(event, context): return {'statusCode': 200}\n"


async def test_a_folder_that_can_no_longer_be_watched_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operating system bounds what can be watched; the gateway goes on without."""
    (tmp_path / "default.py").write_text(HANDLER)
    folder = HandlerFolder(tmp_path)
    monkeypatch.setattr("watchfiles.awatch", AwatchWithoutWatches)

    with structlog.testing.capture_logs() as logs:
        await reload_changes(folder, None, asyncio.Event())  # type: ignore[arg-type]

    assert [line["event"] for line in logs] == ["changes are no longer watched"]
    folder.close()


class AwatchWithoutWatches:
    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __aiter__(self) -> AwatchWithoutWatches:
        return self

    async def __anext__(self) -> None:
        raise OSError("OS file watch limit reached.")
