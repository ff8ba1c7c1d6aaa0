"""What an API is loaded from, and what comes of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from wsgateway.api.checks import check, without_effect
from wsgateway.api.definition import CONNECT, DEFAULT, DISCONNECT, ApiDefinition
from wsgateway.api.integration_uri import PYTHON, InvalidUri, PythonReference, parse_uri
from wsgateway.errors import Fault, OperatorFaults
from wsgateway.loaders.faults import collecting
from wsgateway.loaders.functions import FunctionFolder
from wsgateway.loaders.yaml_file import by_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

    from wsgateway.api.definition import RouteDefinition
    from wsgateway.functions.python import Handler
    from wsgateway.loaders.yaml_file import Read

log = structlog.stdlib.get_logger(__name__)

EVENT_FILES = {"connect": CONNECT, "disconnect": DISCONNECT, "default": DEFAULT}
_FILES = {key: name for name, key in EVENT_FILES.items()}


@dataclass(frozen=True, slots=True)
class LoadedApi:
    """An API with the functions that serve it in this process.

    Each route of the definition has either a target, the name of an integration, or a handler.

    Attributes:
        definition: With a route for each handler.
        handlers: By route key, for the routes without a target.
        function_names: The name of each handler's file, by route key.
        functions: By the name of the integration, for those whose URI is `python:`.
    """

    definition: ApiDefinition
    handlers: Mapping[str, Handler]
    function_names: Mapping[str, str]
    functions: Mapping[str, Handler] = field(default_factory=dict)


class ApiSource(ABC):
    """Loads an API, and loads again what has changed.

    Attributes:
        path: What the user named.
        folder: Where its files are: handlers, helpers, `static/`.
        definition_file: What declares it, if it exists.
    """

    def __init__(self, path: Path, *, folder: Path, definition_file: Path) -> None:
        self.path = path
        self.folder = folder
        self.definition_file = definition_file
        self._functions = FunctionFolder(folder)
        self._warned: frozenset[Fault] = frozenset()

    def definition(self) -> ApiDefinition:
        """Return what is declared, without what handlers' files add, or the defaults.

        Raises:
            OperatorFaults: It cannot be read, or declares what is not known; with all faults.
        """
        read = self._read()
        if read.faults:
            raise OperatorFaults(by_line(read.faults))
        return read.definition

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
        with self._functions.changes() as changed:
            return self._load(changed)

    def is_source(self, path: str) -> bool:
        """Whether a change of this file concerns what is served."""
        if path.endswith(".py"):
            return True
        return Path(path).resolve() == self.definition_file.resolve()

    def module(self, name: str) -> ModuleType:
        """Return a module, imported if it is not yet.

        Args:
            name: The file's, without `.py`.

        Raises:
            BaseException: Whatever the module raises.
        """
        return self._functions.module(name)

    def close(self) -> None:
        """Forget the modules."""
        self._functions.close()

    @abstractmethod
    def _read(self) -> Read[ApiDefinition]:
        """Read the definition."""

    @abstractmethod
    def _load(self, forgotten: Sequence[str]) -> LoadedApi:
        """Load everything, and also what is forgotten and imported late, for its faults."""

    def _fitted(
        self,
        read: Read[ApiDefinition],
        *,
        routes: Mapping[str, RouteDefinition],
        handlers: Mapping[str, Handler],
        function_names: Mapping[str, str],
        wrong: list[tuple[int, Fault]],
        faults: list[Fault],
    ) -> LoadedApi:
        """Return the API if everything fits together.

        Args:
            read: What is declared.
            routes: Those, and what handlers' files add.
            handlers: Of the routes without a target.
            function_names: The names of their files.
            wrong: The faults of the definition so far, with their lines.
            faults: The faults of everything else so far.

        Raises:
            OperatorFaults: It does not fit, or there are faults already; with all of them.
        """
        definition = read.definition.model_copy(update={"routes": dict(routes)})
        wrong = [*wrong, *(read.fault(*finding) for finding in check(definition, read.at_fault))]
        functions: dict[str, Handler] = {}
        for name, reference in _references(definition).items():
            place = ("integrations", name, "integrationUri")
            line = read.line(place)
            of_functions: list[Fault] = []
            with collecting(of_functions):
                functions[name] = self._functions.function(
                    reference, place=f"{read.path}:{line}", name=".".join(place)
                )
            wrong += [(line, fault) for fault in of_functions]
        faults = [*faults, *by_line(wrong)]
        if faults:
            # A broken helper is a fault of each handler that imports it.
            raise OperatorFaults(list(dict.fromkeys(faults)))
        self._warn(by_line(read.fault(*finding) for finding in without_effect(definition)))
        return LoadedApi(definition, handlers, function_names, functions)

    def _warn(self, found: Sequence[Fault]) -> None:
        """Log what has not been logged of the definition as it was loaded last."""
        for warning in found:
            if warning not in self._warned:
                log.warning(
                    "a declaration is without effect",
                    place=warning.place,
                    problem=warning.problem,
                    remedy=warning.remedy,
                )
        self._warned = frozenset(found)

    def _no_handler(self, read: Read[ApiDefinition], key: str) -> tuple[int, Fault]:
        line = read.line(("routes", key))
        file = self._file(key)
        add = "add a target" if file is None else f"add {file} or a target"
        fault = Fault(
            f"{read.path}:{line}",
            f"the route {key!r} has no handler",
            f"{add}, or remove the route",
        )
        return line, fault

    def _file(self, route_key: str) -> Path | None:
        """Return what the handler's file of a route is called; None if no file can be."""
        name = f"{_FILES.get(route_key, route_key)}.py"
        is_name = name.isprintable() and "/" not in name and not name.startswith(("_", "."))
        return self.folder / name if is_name else None


def _references(definition: ApiDefinition) -> dict[str, PythonReference]:
    """Return which functions of this process integrations name; what else is wrong is told."""
    references = {}
    for name, integration in definition.integrations.items():
        uri = integration.integration_uri
        if uri is None or not uri.startswith(PYTHON) or integration.integration_type.is_http:
            continue
        try:
            reference = parse_uri(uri)
        except InvalidUri:
            continue
        assert isinstance(reference, PythonReference), "it begins with python:"
        references[name] = reference
    return references
