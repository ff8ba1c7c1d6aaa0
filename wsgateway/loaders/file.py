"""A definition file by itself: what it does not name is not served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsgateway.api.definition import ApiDefinition
from wsgateway.errors import Fault, OperatorFaults
from wsgateway.loaders.faults import collecting
from wsgateway.loaders.folder import HandlerFolder
from wsgateway.loaders.source import ApiSource
from wsgateway.loaders.yaml_file import Read, read_definition

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from wsgateway.functions.python import Handler
    from wsgateway.loaders.source import LoadedApi

SUFFIXES = (".yaml", ".yml", ".json")


def open_source(path: Path) -> ApiSource:
    """Open what the user named: a folder of handlers, or a definition file.

    Raises:
        OperatorFaults: It is neither.
    """
    if path.is_dir():
        return HandlerFolder(path)
    if not path.exists():
        # A name without a suffix is most likely that of a folder.
        return DefinitionFile(path) if path.suffix in SUFFIXES else HandlerFolder(path)
    return DefinitionFile(path)


class DefinitionFile(ApiSource):
    """Loads a definition file, and loads it again with what has changed beside it."""

    def __init__(self, path: Path) -> None:
        if path.suffix not in SUFFIXES:
            raise OperatorFaults(
                [
                    Fault(
                        str(path),
                        "is neither a folder nor a definition",
                        f"name a folder of handlers, or a file whose name ends in "
                        f"{', '.join(SUFFIXES)}",
                    )
                ]
            )
        super().__init__(path, folder=path.parent, definition_file=path)

    def _read(self) -> Read[ApiDefinition]:
        return read_definition(self.path, ApiDefinition)

    def _load(self, forgotten: Sequence[str]) -> LoadedApi:
        read = self._read()
        wrong = list(read.faults)
        faults: list[Fault] = []
        handlers: dict[str, Handler] = {}
        names: dict[str, str] = {}
        declared = read.definition.routes
        for key, route in declared.items():
            if route.target is not None:
                continue
            file = self._file(key)
            if file is None or not file.is_file():
                wrong.append(self._no_handler(read, key))
                continue
            names[key] = file.stem
            with collecting(faults):
                handlers[key] = self._functions.handler(file)
        faults += self._functions.load_again(forgotten)
        if not declared and not any(at[:1] in {(), ("routes",)} for at in read.at_fault):
            line = read.line(("routes",))
            fault = Fault(
                f"{self.path}:{line}",
                "At least one route is required before deploying the Api",
                "add one to routes",
            )
            wrong.append((line, fault))
        return self._fitted(
            read,
            routes=declared,
            handlers=handlers,
            function_names=names,
            wrong=wrong,
            faults=faults,
        )
