"""A folder of handlers: one file, one route, and an optional `api.yaml` for what files cannot say."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from wsgateway.api.definition import CONNECT, DEFAULT, DISCONNECT, ApiDefinition, RouteDefinition
from wsgateway.errors import Fault, OperatorFaults
from wsgateway.loaders.faults import collecting
from wsgateway.loaders.modules import HandlerModules
from wsgateway.loaders.yaml_file import load_definition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import ModuleType

    from wsgateway.functions.python import Handler
    from wsgateway.loaders.yaml_file import Lines

Result = TypeVar("Result")

DEFINITION_FILE = "api.yaml"
_OTHER_DEFINITION_FILE = "api.yml"
_EVENT_FILES = {"connect": CONNECT, "disconnect": DISCONNECT, "default": DEFAULT}


@dataclass(frozen=True, slots=True)
class LoadedApi:
    """What a folder holds.

    Attributes:
        definition: With a route for each handler.
        handlers: By route key.
        function_names: The file's name for each route key.
    """

    definition: ApiDefinition
    handlers: Mapping[str, Handler]
    function_names: Mapping[str, str]


class HandlerFolder:
    """Loads a folder, and loads again what has changed in it."""

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise OperatorFaults(
                [Fault(str(path), "there is no such folder", "name a folder of handlers")]
            )
        self.path = path
        self._modules = HandlerModules(path)

    def definition(self) -> ApiDefinition:
        """Return what `api.yaml` declares, or the defaults.

        Raises:
            OperatorFaults: It cannot be read, or declares what is not known; with all faults.
        """
        return self._declared()[0]

    def load(self) -> LoadedApi:
        """Load everything.

        Raises:
            OperatorFaults: Something cannot be served; with all faults of all files.
        """
        return self._load(())

    def reload(self) -> LoadedApi:
        """Load again what has changed, and what imports it; the rest keeps its state.

        Raises:
            OperatorFaults: As `load`; what was loaded before is kept.
        """
        before = self._modules.state()
        changed = self._modules.changed()
        self._modules.forget(changed)
        try:
            return self._load(sorted(changed))
        except BaseException:
            self._modules.restore(before)
            raise

    def module(self, name: str) -> ModuleType:
        """Return a module, imported if it is not yet.

        Args:
            name: The file's, without `.py`.

        Raises:
            BaseException: Whatever the module raises.
        """
        return self._modules.load(name)

    def close(self) -> None:
        """Forget the modules."""
        self._modules.close()

    def _load(self, forgotten: Iterable[str]) -> LoadedApi:
        """Load everything, and also what is forgotten and imported late, for its faults."""
        files = {_route_key(file): file for file in self._handler_files()}
        faults: list[Fault] = []
        handlers: dict[str, Handler] = {}
        declared = ApiDefinition()
        for key, file in files.items():
            with collecting(faults):
                handlers[key] = self._handler(file)
        for name in forgotten:
            with collecting(faults):
                self._import(self._modules.load_again, name)
        with collecting(faults):
            declared, lines = self._declared()
            faults.extend(
                Fault(
                    f"{self.path / DEFINITION_FILE}:{lines['routes', key]}",
                    f"the route {key!r} has no handler",
                    f"add {self.path / _file_name(key)}, or remove the route",
                )
                for key in declared.routes
                if key not in files
            )
        if not files:
            faults.append(
                Fault(str(self.path), "there is no handler", "add a file such as default.py")
            )
        if faults:
            # A broken helper is a fault of each handler that imports it.
            raise OperatorFaults(list(dict.fromkeys(faults)))
        routes = {key: declared.routes.get(key, RouteDefinition()) for key in handlers}
        return LoadedApi(
            declared.model_copy(update={"routes": routes}),
            handlers,
            {key: file.stem for key, file in files.items()},
        )

    def _declared(self) -> tuple[ApiDefinition, Lines]:
        if (other := self.path / _OTHER_DEFINITION_FILE).exists():
            raise OperatorFaults([Fault(str(other), "is not read", f"call it {DEFINITION_FILE}")])
        file = self.path / DEFINITION_FILE
        return load_definition(file, ApiDefinition) if file.exists() else (ApiDefinition(), {})

    def _handler_files(self) -> list[Path]:
        # Editors and file systems leave hidden files about.
        return [
            file
            for file in sorted(self.path.glob("*.py"))
            if not file.name.startswith(("_", ".")) and file.is_file()
        ]

    def _handler(self, file: Path) -> Handler:
        if file.stem.startswith("$"):
            events = [f"{stem}.py" for stem, key in _EVENT_FILES.items() if key == file.stem]
            remedy = f"call it {events[0]}" if events else "only names of events do"
            raise OperatorFaults([Fault(str(file), "a file's name cannot begin with $", remedy)])
        module = self._import(self._modules.load, file.stem)
        handler: Handler | None = getattr(module, "handler", None)
        if not callable(handler):
            raise OperatorFaults(
                [
                    Fault(
                        f"{file}:1",
                        "there is no handler",
                        f"define handler(event, context), or call the file _{file.name} "
                        "if it is a helper",
                    )
                ]
            )
        return handler

    def _import(self, load: Callable[[str], Result], name: str) -> Result:
        try:
            return load(name)
        except KeyboardInterrupt:
            raise
        # A module may raise anything while it is imported.
        except BaseException as error:
            raise OperatorFaults([self._import_fault(name, error)]) from error

    def _import_fault(self, name: str, error: BaseException) -> Fault:
        if isinstance(error, SyntaxError) and error.filename is not None:
            file = self._as_written(error.filename)
            if file is not None:
                place = f"{file}:{error.lineno or 1}"
                return Fault(place, f"cannot be compiled: {error.msg}", "mend the syntax")
        place = f"{self.path / name}.py:1"
        for frame in traceback.extract_tb(error.__traceback__):
            file = self._as_written(frame.filename)
            if file is not None:
                place = f"{file}:{frame.lineno}"
        problem = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
        return Fault(place, f"cannot be imported: {problem}", "mend what is raised there")

    def _as_written(self, filename: str) -> Path | None:
        """Return a file of the folder as the user would call it; None if it is elsewhere."""
        file, folder = Path(filename), self.path.resolve()
        return self.path / file.relative_to(folder) if file.is_relative_to(folder) else None


def _route_key(file: Path) -> str:
    return _EVENT_FILES.get(file.stem, file.stem)


def _file_name(route_key: str) -> str:
    names = {key: name for name, key in _EVENT_FILES.items()}
    return f"{names.get(route_key, route_key)}.py"
