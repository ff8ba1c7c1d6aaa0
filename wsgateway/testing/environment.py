"""An environment of its own for the handlers of each gateway that is tested.

Handlers read `os.environ`, of which a process has one. While gateways are tested it looks first at
the variables of the gateway whose handler is running, which a `ContextVar` tells. The object stays
the same one, with another class, so that it makes no difference who got hold of it when: botocore
keeps it as a default argument, others write `from os import environ`.

The `ContextVar` is also handed on to the threads and executor calls that a handler starts, for
posting to many connections from a `ThreadPoolExecutor` is what handlers do.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

P = ParamSpec("P")
Result = TypeVar("Result")


class HandlerEnvironment:
    """The variables of one gateway's handlers, on top of those of the process.

    What a handler sets or deletes, it sets or deletes here.

    Args:
        variables: By name; None hides one of the process.
    """

    def __init__(self, variables: Mapping[str, str | None]) -> None:
        self.variables = dict(variables)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let `os.environ` be this in a block, for the current task or thread only."""
        token = _active.set(self)
        try:
            yield
        finally:
            _active.reset(token)


_active: ContextVar[HandlerEnvironment | None] = ContextVar("_active", default=None)


def _call_in(
    environment: HandlerEnvironment | None,
    function: Callable[P, Result],
    *args: P.args,
    **kwargs: P.kwargs,
) -> Result:
    token = _active.set(environment)
    try:
        return function(*args, **kwargs)
    finally:
        _active.reset(token)


class _Environ(os._Environ[str]):  # noqa: SLF001 - the class of os.environ has no public name
    """`os.environ` while gateways are tested: the active variables first, then the process's."""

    def __getitem__(self, key: str) -> str:
        environment = _active.get()
        if environment is None or key not in environment.variables:
            return super().__getitem__(key)
        value = environment.variables[key]
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: str) -> None:
        environment = _active.get()
        if environment is None:
            super().__setitem__(key, value)
            return
        # What os.environ would refuse is refused here too.
        self.encodekey(key)
        self.encodevalue(value)
        environment.variables[key] = value

    def __delitem__(self, key: str) -> None:
        environment = _active.get()
        if environment is None:
            super().__delitem__(key)
            return
        self[key]
        environment.variables[key] = None

    def __iter__(self) -> Iterator[str]:
        environment = _active.get()
        # A list, for another thread may be setting one.
        own = {} if environment is None else dict(environment.variables)
        yield from (name for name in super().__iter__() if name not in own)
        yield from (name for name, value in own.items() if value is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"environ({dict(self)!r})"


def replace_environ_class() -> Callable[[], None]:
    """Let `os.environ` look at the active variables first; returns what undoes it."""
    environ, before = os.environ, type(os.environ)
    try:
        environ.__class__ = _Environ
    except TypeError as error:
        raise RuntimeError(
            "os.environ has been replaced with another object: change its items instead"
        ) from error

    def undo() -> None:
        environ.__class__ = before

    return undo


def hand_on_to_threads() -> Callable[[], None]:
    """Let a thread have the environment of who starts it; returns what undoes it."""
    original = threading.Thread.start

    def start(self: threading.Thread) -> None:
        environment = _active.get()
        if environment is not None:
            self.run = partial(_call_in, environment, self.run)  # type: ignore[method-assign]
        original(self)

    threading.Thread.start = start  # type: ignore[method-assign]

    def undo() -> None:
        # Somebody may have put something on top of it, which is not ours to remove.
        if threading.Thread.start is start:
            threading.Thread.start = original  # type: ignore[method-assign]

    return undo


def hand_on_to_executors() -> Callable[[], None]:
    """Let a call in a pool have the environment of who submits it; returns what undoes it."""
    original = ThreadPoolExecutor.submit

    def submit(
        self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        # None too: the thread may have been started by a handler.
        return original(self, partial(_call_in, _active.get(), fn), *args, **kwargs)

    # mypy has no type for a function that keeps the signature of another.
    ThreadPoolExecutor.submit = submit  # type: ignore[method-assign, assignment]

    def undo() -> None:
        if ThreadPoolExecutor.submit is submit:
            ThreadPoolExecutor.submit = original  # type: ignore[method-assign]

    return undo
