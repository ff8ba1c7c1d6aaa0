"""How do mapped parameters stand in a URI: for its `{placeholders}`, and as a query string?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from wsgateway.api.integration_uri import PLACEHOLDER
from wsgateway.errors import TransformationFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# RFC 3986, 5.2.4: what a backend takes out of a path, with what stands before it.
_UPWARDS: Final = frozenset({".", ".."})


class UriText:
    """A part of a URI, whose text between placeholders is encoded once for all.

    Args:
        text: The part.
        encode: How what is no placeholder is encoded.

    Attributes:
        constant: The encoded part; None if it has placeholders.
    """

    def __init__(self, text: str, encode: Callable[[str], str]) -> None:
        # Text and names of placeholders, by turns.
        self._pieces = [
            piece if turn % 2 else encode(piece)
            for turn, piece in enumerate(PLACEHOLDER.split(text))
        ]
        self.constant = self._pieces[0] if len(self._pieces) == 1 else None

    def filled(self, values: Mapping[str, str], *, safe: str = "") -> str:
        """Return the part with percent-encoded values, but for what is `safe` in them.

        Raises:
            TransformationFailed: A placeholder has no value.
        """
        if self.constant is not None:
            return self.constant
        pieces = self._pieces.copy()
        for index in range(1, len(pieces), 2):
            # Without one the URI would be another: /users/ for /users/7.
            if not (value := values.get(pieces[index])):
                raise TransformationFailed(f"the path parameter {pieces[index]} has no value")
            pieces[index] = escaped(value, safe=safe)
        return "".join(pieces)


def check_path(path: str) -> None:
    """Check that a path is what it looks like.

    Raises:
        TransformationFailed: It leads to another one.
    """
    if not _UPWARDS.isdisjoint(path.split("/")):
        raise TransformationFailed(f"a path parameter leads elsewhere: {path}")


def query_pairs(parameters: Sequence[tuple[str, str]]) -> list[str]:
    """Return query string parameters, encoded."""
    return [f"{escaped(name)}={escaped(value)}" for name, value in parameters]


def escaped(text: str, *, safe: str = "") -> str:
    """Return a text percent-encoded, as a query string has it and signatures want it.

    A lone surrogate, which JSON may bring, is a question mark, as Java writes it.
    """
    return quote(text, safe=safe, errors="replace")
