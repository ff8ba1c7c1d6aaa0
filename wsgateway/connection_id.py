"""Connection, request and message ids: AWS's shape, with the owner inside.

Each is 11 bytes as URL-safe base64, 15 characters and one `=`. Byte 8 tells what it is (`0x02`
a connection, `0x05` a request), as in every id captured from API Gateway.

    connection  node's tag (0-2)  random (3-7)  0x02  random (9-10)
    request     random (0-7)                    0x05  random (9-10)
    message     random (0-7)                    0x02  the last two bytes of its connection's id

Randomness is an argument: this module rolls no dice.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import b2a_base64
from hashlib import sha256

TAG_SIZE = 3
"""Bytes of a node's tag."""
ENTROPY_SIZE = 10
"""Random bytes that each function here takes at least."""

_CONNECTION = b"\x02"
_REQUEST = b"\x05"
_SHAPE = re.compile(r"[A-Za-z0-9_-]{15}=", re.ASCII)
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def new_connection_id(tag: bytes, entropy: bytes) -> str:
    """Make the id of a connection that the node with this tag owns.

    Args:
        tag: `TAG_SIZE` bytes.
        entropy: At least 7 random bytes.
    """
    assert len(tag) == TAG_SIZE
    return urlsafe_b64encode(tag + entropy[:5] + _CONNECTION + entropy[5:7]).decode("ascii")


def new_request_id(entropy: bytes) -> str:
    """Make the id of one request: a `$connect`, a message, a `$disconnect`, a callback."""
    raw = entropy[:8] + _REQUEST + entropy[8:10]
    # Once per message: half the cost of urlsafe_b64encode().
    return b2a_base64(raw, newline=False).translate(_URL_SAFE).decode("ascii")


def orphan_request_id(connection_id: str) -> str:
    """Return the id of a `$disconnect` that nobody has claimed, the same whoever delivers it.

    A node that could not record a connection and was given up by the others in that moment does
    not know whether they deliver its `$disconnect` too. With one id a second delivery is seen as
    what it is.
    """
    return new_request_id(sha256(connection_id.encode()).digest())


def new_message_id(connection_id: str, entropy: bytes) -> str:
    """Make the id of a message; its last three bytes are those of the connection's id."""
    # Nine bytes are exactly twelve characters, so the tail can be taken over as text.
    head = b2a_base64(entropy[:8] + _CONNECTION, newline=False).translate(_URL_SAFE)
    return head.decode("ascii") + connection_id[12:]


def has_shape_of_id(text: str) -> bool:
    """Whether a text can be an id of any of the three kinds."""
    return _SHAPE.fullmatch(text) is not None


def owner_tag(connection_id: str) -> bytes | None:
    """Return the tag of the node that owns a connection; None when this is no id at all."""
    if not has_shape_of_id(connection_id):
        return None
    return urlsafe_b64decode(connection_id)[:TAG_SIZE]
