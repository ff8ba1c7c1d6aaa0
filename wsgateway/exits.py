"""How does a command end when what it was given is at fault?"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer

from wsgateway.errors import OperatorFaults

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wsgateway.errors import Fault

OPERATOR_FAULT = 2
"""The exit code when nothing was done because of settings, definition, flags or ports."""


def give_up(faults: Iterable[Fault]) -> NoReturn:
    """End the command with faults, each told once."""
    for fault in dict.fromkeys(faults):
        typer.echo(str(fault), err=True)
    raise typer.Exit(OPERATOR_FAULT)


@contextmanager
def giving_up() -> Iterator[None]:
    """End the command with the faults that a block raises."""
    try:
        yield
    except OperatorFaults as error:
        give_up(error.faults)
