"""Writes docs/configuration.md from the settings in the code: `python docs/configuration_page.py`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from wsgateway.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

PAGE = Path(__file__).with_name("configuration.md")
_FLAGS = frozenset(
    {
        "path",
        "host",
        "port",
        "stage",
        "management_port",
        "management_host",
        "insecure_callbacks",
        "node_name",
        "redis",
        "redis_wait",
        "workers",
        "reload",
    }
)
_HEAD = """\
# Configuration

Written from the code by `make docs`.

Each setting comes from the first place that has it:

1. a flag of `wsgateway serve`, for those that have one;
2. a variable: `WSGATEWAY_` and the setting's name in capitals, `WSGATEWAY_IDLE_TIMEOUT_S=60`;
3. a line of the TOML file given by `--settings FILE`: `idle_timeout_s = 60`.

Names end in their unit: `_s` seconds, `_ms` milliseconds, `_size_max` bytes. A setting that is not
known, or out of its bounds, ends with exit code 2 and a line that names its place.

The defaults of sizes and times that AWS fixes are AWS's; `wsgateway/limits.py` has the source of each.

| Setting | Default | Bounds | |
| --- | --- | --- | --- |
"""


def page() -> str:
    """Return the whole page."""
    rows = [
        f"| `{name}`{' (flag)' if name in _FLAGS else ''} | {_default(field)} | {_bounds(field)} "
        f"| {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return _HEAD + "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> str:
    if field.default is None:
        return ""
    value = field.default
    text = f"{value:g}" if isinstance(value, float) else str(value).lower()
    return f"`{text}`"


def _bounds(field: FieldInfo) -> str:
    bounds = []
    for metadata in _metadata(field):
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤")):
            if (bound := getattr(metadata, name, None)) is not None:
                bounds.append(f"{sign} {bound}")
    if any(isinstance(value, str) for value in get_args(field.annotation)):
        bounds.append(", ".join(f"`{value}`" for value in get_args(field.annotation)))
    return " ".join(bounds)


def _metadata(field: FieldInfo) -> Iterator[Any]:
    yield from field.metadata
    for argument in get_args(field.annotation):
        for metadata in getattr(argument, "__metadata__", ()):
            yield from getattr(metadata, "metadata", [metadata])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
