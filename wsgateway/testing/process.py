"""What is changed in the process while gateways are tested; the last one puts it back."""

from __future__ import annotations

import resource
import sys
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import structlog

from wsgateway.testing.environment import (
    hand_on_to_executors,
    hand_on_to_threads,
    replace_environ_class,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_lock = threading.Lock()
_undo: list[Callable[[], None]] = []
_users: list[object] = []


@contextmanager
def changed() -> Iterator[None]:
    """Change the process for as long as a block lasts, and others like it."""
    user = object()
    with _lock:
        if not _users:
            _undo.extend(change() for change in _CHANGES)
        _users.append(user)
    try:
        yield
    finally:
        with _lock:
            _users.remove(user)
            while not _users and _undo:
                _undo.pop()()


def _keep_limit_of_files() -> Callable[[], None]:
    """Put the limit of open files back, which the listener raises."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    return partial(resource.setrlimit, resource.RLIMIT_NOFILE, limit)


def _set_default_session_aside() -> Callable[[], None]:
    """Let `boto3.client` begin with a new session, for a session keeps the credentials it found."""
    boto3 = sys.modules.get("boto3")
    before = getattr(boto3, "DEFAULT_SESSION", None)
    if boto3 is not None:
        boto3.DEFAULT_SESSION = None  # type: ignore[attr-defined]

    def undo() -> None:
        if (boto3 := sys.modules.get("boto3")) is not None:
            boto3.DEFAULT_SESSION = before  # type: ignore[attr-defined]

    return undo


def _print_plain_tracebacks() -> Callable[[], None]:
    """Let the log of who has not configured it print tracebacks without all local variables.

    structlog's own default fills pages with them, in colours, where pytest shows what was printed.
    """
    if structlog.is_configured():
        return _nothing
    renderer = structlog.dev.ConsoleRenderer(
        colors=False, exception_formatter=structlog.dev.plain_traceback
    )
    processors = [*structlog.get_config()["processors"][:-1], renderer]
    structlog.configure(processors=processors)

    def undo() -> None:
        # A handler may have configured it meanwhile.
        if structlog.get_config()["processors"] is processors:
            structlog.reset_defaults()

    return undo


def _nothing() -> None:
    pass


_CHANGES = (
    # The one that may refuse comes first.
    replace_environ_class,
    hand_on_to_threads,
    hand_on_to_executors,
    _keep_limit_of_files,
    _set_default_session_aside,
    _print_plain_tracebacks,
)
