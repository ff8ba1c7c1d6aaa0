"""What the listener relies on inside uvicorn, httptools and websockets is still where it was.

Their versions are pinned. When a new one is to be tried, these tests say what has moved before
sockets do.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import textwrap
import tomllib
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httptools
import pytest
import uvicorn
from packaging.requirements import Requirement
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState
from websockets.protocol import SEND_EOF, Protocol, State
from websockets.server import ServerProtocol

from wsgateway.listener.exchange import Exchange
from wsgateway.listener.http import Http
from wsgateway.listener.server import Listener
from wsgateway.listener.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


async def app(scope: Any, receive: Any, send: Any) -> None: ...


def config() -> uvicorn.Config:
    return uvicorn.Config(app, ws="none", interface="asgi3", lifespan="off", log_config=None)


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def own_methods(cls: type) -> set[str]:
    """Return the names of the methods that a class overrides in the library's one."""
    library = cls.__mro__[1]
    return {
        name
        for name, member in vars(cls).items()
        if inspect.isfunction(member) and hasattr(library, name)
    }


def used_attributes(cls: type) -> set[str]:
    """Return the attributes of `self` that a class reads or sets."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


# --- versions


@pytest.mark.parametrize("name", ["uvicorn", "httptools", "websockets"])
def test_the_installed_version_is_the_pinned_one(name: str) -> None:
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    [pin] = [
        requirement
        for requirement in map(Requirement, project["dependencies"])
        if requirement.name == name
    ]

    assert pin.specifier.contains(version(name))


def test_the_minor_versions_whose_internals_are_used_are_pinned() -> None:
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    pins = {r.name: str(r.specifier) for r in map(Requirement, project["dependencies"])}

    assert pins["uvicorn"] == "~=0.54.0"
    assert pins["httptools"] == "~=0.9.0"


# --- uvicorn's protocol


def test_what_is_overridden_in_the_protocol_exists_with_the_same_arguments() -> None:
    assert own_methods(Http) == {
        "__init__",
        "_should_upgrade",
        "connection_lost",
        "connection_made",
        "data_received",
        "eof_received",
        "on_body",
        "on_header",
        "on_headers_complete",
        "on_message_begin",
        "on_message_complete",
        "on_response_complete",
        "on_url",
        "pause_writing",
        "resume_writing",
    }
    for name in own_methods(Http) - {"__init__"}:
        assert parameters(getattr(Http, name)) == parameters(getattr(HttpToolsProtocol, name))
    assert parameters(HttpToolsProtocol.__init__) == [
        "self",
        "config",
        "server_state",
        "app_state",
        "_loop",
    ]


async def test_what_is_used_of_the_protocol_exists() -> None:
    shared: Any = SimpleNamespace(loop=asyncio.get_running_loop())
    http = Http(shared, config=config(), server_state=ServerState())
    http.on_message_begin()

    assert {name for name in used_attributes(Http) if not hasattr(http, name)} == set()
    assert http.connections is http.server_state.connections


def test_the_protocol_calls_what_is_overridden_instead_of_acting_itself() -> None:
    """These decide on an upgrade, and on the next request, by calling what `Http` overrides."""
    for name in ("on_body", "on_message_complete"):
        source = inspect.getsource(getattr(HttpToolsProtocol, name))
        assert "self.parser.should_upgrade() and self._should_upgrade()" in source


def test_a_request_is_begun_as_the_protocol_would() -> None:
    """`Http` does by itself what this does, with an `Exchange` in place of a cycle."""
    source = inspect.getsource(HttpToolsProtocol.on_headers_complete)
    assert set(re.findall(r"self\.scope\[\"(\w+)\"\]", source)) == {
        "http_version",
        "method",
        "path",
        "query_string",
        "raw_path",
    }
    assert parameters(RequestResponseCycle.__init__)[1:] == re.findall(
        r"^ {12}(\w+)=", source, flags=re.MULTILINE
    )
    assert "on_response=self.on_response_complete" in source
    assert "if existing_cycle is None or existing_cycle.response_complete:" in source
    assert "self.pipeline.appendleft((self.cycle, app))" in source


async def test_headers_are_one_list_in_protocol_and_scope() -> None:
    """`Http` lower-cases the names in place."""
    theirs = HttpToolsProtocol(config(), ServerState(), {})
    theirs.on_message_begin()

    assert theirs.scope["headers"] is theirs.headers


def test_a_request_cycle_has_what_is_used_of_it() -> None:
    assert {
        "default_headers",
        "disconnected",
        "flow",
        "keep_alive",
        "message_event",
        "on_response",
        "response_complete",
        "response_started",
        "scope",
        "transport",
        "waiting_for_100_continue",
    } <= used_attributes(RequestResponseCycle)
    assert own_methods(Exchange) == {"send"}
    assert parameters(Exchange.send) == parameters(RequestResponseCycle.send)
    assert not hasattr(RequestResponseCycle, "_answer")
    assert "_start" not in used_attributes(RequestResponseCycle)


def test_flow_control_has_what_is_used_of_it() -> None:
    assert {"read_paused", "write_paused"} <= used_attributes(FlowControl)
    assert parameters(FlowControl.resume_reading) == ["self"]


# --- uvicorn's server


def test_what_is_overridden_in_the_server_exists_with_the_same_arguments() -> None:
    overridden = {"capture_signals", "main_loop", "shutdown", "startup"}
    assert own_methods(Listener) == {"__init__", *overridden}
    for name in overridden:
        assert parameters(getattr(Listener, name)) == parameters(getattr(uvicorn.Server, name))


def test_the_server_uses_what_the_listener_sets() -> None:
    serve = inspect.getsource(uvicorn.Server._serve)
    shutdown = inspect.getsource(uvicorn.Server.shutdown)

    assert "await self.startup(sockets=sockets)" in serve
    assert "await self.main_loop()" in serve
    assert "await self.on_tick(" in inspect.getsource(uvicorn.Server.main_loop)
    assert "await self.shutdown(sockets=sockets)" in serve
    assert "with self.capture_signals():" in inspect.getsource(uvicorn.Server.serve)
    assert "for server in self.servers:" in shutdown
    assert "for connection in list(self.server_state.connections):" in shutdown
    assert "if self.should_exit:" in inspect.getsource(uvicorn.Server.on_tick)


# --- httptools


class Callbacks:
    """Records what a parser calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_message_begin(self) -> None:
        self.calls.append("begin")

    def on_headers_complete(self) -> None:
        self.calls.append("head")

    def on_body(self, body: bytes) -> None:
        self.calls.append(body.decode())

    def on_message_complete(self) -> None:
        self.calls.append("complete")


UPGRADE = b"POST / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 4\r\n\r\n"


def test_an_upgrade_tells_where_the_other_protocol_begins() -> None:
    parser = httptools.HttpRequestParser(Callbacks())
    with pytest.raises(httptools.HttpParserUpgrade) as upgrade:
        parser.feed_data(UPGRADE + b"tail")

    assert upgrade.value.args[0] == len(UPGRADE)
    assert not issubclass(httptools.HttpParserUpgrade, httptools.HttpParserError)


def test_the_offset_counts_from_the_data_that_ended_the_head() -> None:
    parser = httptools.HttpRequestParser(Callbacks())
    parser.feed_data(UPGRADE[:10])
    with pytest.raises(httptools.HttpParserUpgrade) as upgrade:
        parser.feed_data(UPGRADE[10:] + b"tail")

    assert upgrade.value.args[0] == len(UPGRADE) - 10


def test_a_parser_takes_the_body_of_an_upgrade_for_another_protocol_and_goes_on() -> None:
    """So the listener gives the body to another parser."""
    callbacks = Callbacks()
    parser = httptools.HttpRequestParser(callbacks)
    with pytest.raises(httptools.HttpParserUpgrade):
        parser.feed_data(UPGRADE)
    parser.feed_data(b"GET / HTTP/1.1\r\n\r\n")

    assert callbacks.calls == ["begin", "head", "complete", "begin", "head", "complete"]


@pytest.mark.parametrize("callback", ["on_message_begin", "on_headers_complete", "on_body"])
def test_what_a_callback_raises_is_the_context_of_the_parsers_error(callback: str) -> None:
    class Refused(Exception):
        pass

    def refuse(*_: object) -> None:
        raise Refused

    callbacks = Callbacks()
    setattr(callbacks, callback, refuse)
    parser = httptools.HttpRequestParser(callbacks)
    with pytest.raises(httptools.HttpParserError) as error:
        parser.feed_data(b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody")

    assert isinstance(error.value.__context__, Refused)


# --- websockets' sans-I/O core


def test_what_is_overridden_in_the_core_exists_with_the_same_arguments() -> None:
    assert own_methods(Wire) >= {"__init__", "fail", "recv_frame"}
    for name in own_methods(Wire) - {"__init__"}:
        assert parameters(getattr(Wire, name)) == parameters(getattr(Protocol, name))
    assert {"state", "max_size", "logger"} <= set(parameters(ServerProtocol.__init__))


def test_the_core_has_what_is_used_of_it() -> None:
    core = ServerProtocol(state=State.OPEN)

    for name in ("current_size", "close_rcvd", "close_sent", "close_rcvd_then_sent", "_state"):
        assert hasattr(core, name)
    assert core.events == []
    assert core.reader.buffer == b""
    assert SEND_EOF == b""
