"""On which event loops async tests run, and how hypothesis searches."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pytest

TESTS = Path(__file__).parent

# Folders whose tests talk to a whole gateway. They run once, on the loop that it is deployed with.
WHOLE_GATEWAY = frozenset({"browser", "cluster", "contract", "e2e"})


class UndebuggedLoop(uvloop.Loop):
    """uvloop without asyncio's debug mode, in which a round trip costs five times the CPU."""

    def set_debug(self, enabled: bool) -> None:
        super().set_debug(False)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.relative_to(TESTS).parts[0] in WHOLE_GATEWAY:
        return {"uvloop": UndebuggedLoop}
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


# A deadline would measure how busy the machine is. `make test` asks for "ci": the same examples on
# every run, so that a failure is about the change and not about luck. Plain `pytest` keeps looking.
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("dev")
