"""Whose connections does an operator mean, and in which Redis are they?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsgateway.errors import Fault, OperatorFaults
from wsgateway.gateway import stages_to_serve
from wsgateway.loaders.file import open_source
from wsgateway.settings import Settings, derived_api_id, load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Where:
    """An API, and what it takes to reach its connections.

    Attributes:
        settings: With a Redis.
        api_id: Of every key.
        stages: All of the API, or those that were asked for; none if only an id was given.
    """

    settings: Settings
    api_id: str
    stages: Sequence[str]


def find_where(
    *,
    path: Path | None,
    redis: str | None,
    api_id: str | None,
    stage: str | None,
    file: Path | None,
) -> Where:
    """Return what flags, variables and a file of settings mean.

    Raises:
        OperatorFaults: They cannot be read, or do not say enough.
    """
    flags = {"path": path, "redis": redis, "api_id": api_id, "stage": stage}
    given = {name: value for name, value in flags.items() if value is not None}
    settings, faults = load_settings(given, os.environ, file)
    if settings.redis is None and "redis" not in settings.at_fault:
        faults.append(
            Fault(
                settings.place("redis"),
                "there is none, and a gateway without Redis tells nobody of its connections",
                "name the Redis that the nodes share: --redis redis://HOST:PORT, or WSGATEWAY_REDIS",
            )
        )
    stages: Sequence[str] = []
    name = ""
    try:
        if settings.api_id is None or path is not None:
            definition = open_source(settings.path).definition()
            name, stages = definition.name, list(stages_to_serve(definition, settings))
        elif settings.stage is not None:
            stages = settings.stage.split(",")
    except OperatorFaults as error:
        faults += error.faults
        if path is None:
            faults.append(
                Fault("--api-id", "whose connections?", "name the API's id, or its definition")
            )
    if faults:
        raise OperatorFaults(faults)
    return Where(settings, settings.api_id or derived_api_id(name), stages)
