"""Which stage a path means, and what is asked of it."""

from __future__ import annotations

from urllib.parse import unquote

INTERNAL = "_wsgateway"
"""The first segment of the gateway's own paths; no stage can have this name."""
CONNECTIONS = "@connections"


def split_target(target: str) -> tuple[str, str]:
    """Split a request target into the stage's name and the path after it.

    The stage is percent-decoded, the rest is as received, without its leading slash:
    `/dev/@connections/ab%3D?x` gives `("dev", "@connections/ab%3D")`.
    """
    path = target.partition("?")[0]
    stage, _, rest = path.removeprefix("/").partition("/")
    return unquote(stage), rest


def connection_of(path: str) -> str | None:
    """Return the connection id of a path after the stage; None when it names no connection.

    `@` and `=` arrive raw or percent-encoded, as SDKs differ.
    """
    first, _, rest = path.partition("/")
    if (first != CONNECTIONS and unquote(first) != CONNECTIONS) or not rest or "/" in rest:
        return None
    # Nearly every SDK writes an id like this, and decoding it is dear.
    if rest.endswith("%3D") and rest.count("%") == 1:
        return f"{rest[:-3]}="
    return unquote(rest)
