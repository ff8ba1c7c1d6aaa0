"""Going on after a fault, so that the next step can find more."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from wsgateway.errors import OperatorFaults

if TYPE_CHECKING:
    from wsgateway.errors import Fault


class collecting(AbstractContextManager[None]):  # noqa: N801 - reads as a statement
    """Ends a block at its first `OperatorFaults`, and keeps what it tells.

    Args:
        faults: Where to.
    """

    def __init__(self, faults: list[Fault]) -> None:
        self._faults = faults

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if isinstance(error, OperatorFaults):
            self._faults.extend(error.faults)
            return True
        return False
