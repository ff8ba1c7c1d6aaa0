"""pytest's fixtures for applications that are tested with `wsgateway.testing`.

pytest imports this module in every run where the package is installed, so it imports nothing that
takes time before a test asks for it.
"""

from __future__ import annotations

import asyncio
import importlib.util
from contextlib import AsyncExitStack
from os import PathLike
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from wsgateway.testing import RunningGateway, Serve
    from wsgateway.testing.running import Source

_SOURCE = "wsgateway_source"
_MARKER = "wsgateway"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what the `gateway` fixture is told in the configuration file."""
    parser.addini(
        _SOURCE,
        "Folder of handlers that the fixtures serve, relative to the configuration file.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Add what the `gateway` fixture is told at a test."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(source=None, **options): what the gateway fixture serves, and the options of "
        "wsgateway.testing.serve.",
    )


async def _wsgateway_serve(request: pytest.FixtureRequest) -> AsyncIterator[Serve]:
    """Run gateways that are stopped after the test: `await wsgateway_serve(source, **options)`.

    It takes what wsgateway.testing.serve takes; without a source it is the configured one.
    """
    from wsgateway.testing import serve  # noqa: PLC0415 - see the first lines

    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:

        async def start(source: Source | None = None, **options: Any) -> RunningGateway:
            if asyncio.get_running_loop() is not loop:
                raise RuntimeError(
                    "the fixture belongs to another event loop than the test: set "
                    "asyncio_default_fixture_loop_scope to the test's loop_scope"
                )
            source = _absolute(source, request.config)
            return await stack.enter_async_context(serve(source, **options))

        yield start


async def _gateway(request: pytest.FixtureRequest, wsgateway_serve: Serve) -> RunningGateway:
    """A running gateway, told what to serve by wsgateway_source and @pytest.mark.wsgateway."""
    source: tuple[Source, ...] = ()
    options: dict[str, Any] = {}
    # From the module's to the test's own.
    for marker in reversed(list(request.node.iter_markers(_MARKER))):
        source = marker.args or source
        options |= marker.kwargs
    return await wsgateway_serve(*source, **options)


def _absolute(source: Source | None, config: pytest.Config) -> Source:
    """Return the source, or the configured one; folders are relative to the configuration file."""
    if source is None:
        source = config.getini(_SOURCE) or None
    if source is None:
        pytest.fail(
            "there is nothing to serve: set wsgateway_source in pytest's configuration, or name a "
            'folder: @pytest.mark.wsgateway("handlers"), wsgateway_serve("handlers")',
            pytrace=False,
        )
    if not isinstance(source, str | PathLike):
        return source
    root = config.rootpath if config.inipath is None else config.inipath.parent
    return root / source


def _lacking() -> None:
    pytest.fail(
        "the fixtures of wsgateway need pytest-asyncio: pip install 'wsgateway[testing]'",
        pytrace=False,
    )


def _fixture(function: Callable[..., Any], name: str) -> Any:
    if importlib.util.find_spec("pytest_asyncio") is None:
        return pytest.fixture(name=name)(_lacking)
    import pytest_asyncio  # noqa: PLC0415 - it need not be there

    # In strict mode an async fixture is one only if pytest-asyncio is told.
    return pytest_asyncio.fixture(name=name)(function)


wsgateway_serve = _fixture(_wsgateway_serve, "wsgateway_serve")
gateway = _fixture(_gateway, "gateway")
