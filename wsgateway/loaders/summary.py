"""What would be served, in a few lines?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsgateway.loaders.yaml_file import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from wsgateway.loaders.source import LoadedApi


def summary(api: LoadedApi, stages: Mapping[str, str]) -> list[str]:
    """Return lines that say which route is served by what, and where.

    Args:
        api: What was loaded.
        stages: Where clients connect, by stage.
    """
    routes = [("route", "replies", "served by")]
    for key, route in api.definition.routes.items():
        replies = "two-way" if route.two_way else "-"
        routes.append((printable(key), replies, printable(_server(api, key))))
    return [
        (
            f"{printable(api.definition.name)}: {_count(routes[1:], 'route')}, "
            f"{_count(stages, 'stage')}"
        ),
        "",
        *_columns(routes),
        "",
        *_columns([("stage", "URL"), *stages.items()]),
    ]


def _server(api: LoadedApi, key: str) -> str:
    target = api.definition.routes[key].target
    if target is None:
        return f"{api.function_names[key]}.py"
    integration = api.definition.integrations[target]
    parts = [target, str(integration.integration_type)]
    if integration.integration_type.is_http and integration.integration_method is not None:
        parts.append(integration.integration_method)
    if integration.integration_uri is not None:
        parts.append(integration.integration_uri)
    return " ".join(parts)


def _count(things: Iterable[object], name: str) -> str:
    number = len(list(things))
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
