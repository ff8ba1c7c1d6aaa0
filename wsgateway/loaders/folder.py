"""A folder of handlers: one file, one route, and an optional `api.yaml` for what files cannot say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsgateway.api.definition import ApiDefinition, RouteDefinition
from wsgateway.errors import Fault, OperatorFaults
from wsgateway.loaders.faults import collecting
from wsgateway.loaders.source import EVENT_FILES, ApiSource, LoadedApi
from wsgateway.loaders.yaml_file import Read, read_definition

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from wsgateway.functions.python import Handler

__all__ = ["DEFINITION_FILE", "HandlerFolder", "LoadedApi"]

DEFINITION_FILE = "api.yaml"
_OTHER_DEFINITION_FILE = "api.yml"


class HandlerFolder(ApiSource):
    """Loads a folder, and loads again what has changed in it."""

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise OperatorFaults(
                [Fault(str(path), "there is no such folder", "name a folder of handlers")]
            )
        super().__init__(path, folder=path, definition_file=path / DEFINITION_FILE)

    def _read(self) -> Read[ApiDefinition]:
        if (other := self.path / _OTHER_DEFINITION_FILE).exists():
            raise OperatorFaults([Fault(str(other), "is not read", f"call it {DEFINITION_FILE}")])
        if self.definition_file.exists():
            return read_definition(self.definition_file, ApiDefinition)
        return Read(self.definition_file, ApiDefinition(), frozenset(), [], {(): 1})

    def _load(self, forgotten: Sequence[str]) -> LoadedApi:
        files = {_route_key(file): file for file in self._handler_files()}
        faults: list[Fault] = []
        handlers: dict[str, Handler] = {}
        for key, file in files.items():
            with collecting(faults):
                _check_name(file)
                handlers[key] = self._functions.handler(file)
        faults += self._functions.load_again(forgotten)
        with collecting(faults):
            read = self._read()
            declared = read.definition.routes
            of_files = {
                key: RouteDefinition()
                for key in files
                if key not in declared and ("routes", key) not in read.at_fault
            }
            wrong = list(read.faults)
            for key, route in declared.items():
                if key in files and route.target is not None:
                    wrong.append(
                        read.fault(
                            ("routes", key, "target"),
                            f"the route {key!r} is served by {files[key]} already",
                            "remove the target, or the file",
                        )
                    )
                elif key not in files and route.target is None:
                    wrong.append(self._no_handler(read, key))
            if not (files or declared or read.at_fault):
                faults.append(
                    Fault(str(self.path), "there is no handler", "add a file such as default.py")
                )
            # In the order of the files, as long as the definition adds none.
            routes = {key: declared.get(key) or of_files.get(key) for key in files} | declared
            return self._fitted(
                read,
                routes={key: route for key, route in routes.items() if route is not None},
                handlers=handlers,
                function_names={key: file.stem for key, file in files.items()},
                wrong=wrong,
                faults=faults,
            )
        raise OperatorFaults(list(dict.fromkeys(faults)))

    def _handler_files(self) -> list[Path]:
        # Editors and file systems leave hidden files about.
        return [
            file
            for file in sorted(self.path.glob("*.py"))
            if not file.name.startswith(("_", ".")) and file.is_file()
        ]


def _check_name(file: Path) -> None:
    if file.stem.startswith("$"):
        events = [f"{stem}.py" for stem, key in EVENT_FILES.items() if key == file.stem]
        remedy = f"call it {events[0]}" if events else "only names of events do"
        raise OperatorFaults([Fault(str(file), "a file's name cannot begin with $", remedy)])


def _route_key(file: Path) -> str:
    return EVENT_FILES.get(file.stem, file.stem)
