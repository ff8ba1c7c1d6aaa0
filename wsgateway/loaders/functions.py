"""The Python functions in the files of a folder; what is wrong with them are the operator's faults."""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from wsgateway.errors import Fault, OperatorFaults
from wsgateway.loaders.faults import collecting
from wsgateway.loaders.modules import HandlerModules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

    from wsgateway.api.integration_uri import PythonReference
    from wsgateway.functions.python import Handler

Result = TypeVar("Result")


class FunctionFolder:
    """Imports the files of a folder, and imports again what has changed in it.

    Attributes:
        path: As the user calls it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._modules = HandlerModules(path)

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

    def handler(self, file: Path) -> Handler:
        """Return what `file` defines as `handler`.

        Raises:
            OperatorFaults: It cannot be imported, or defines none.
        """
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

    def function(self, reference: PythonReference, *, place: str, name: str) -> Handler:
        """Return what a `python:` URI names.

        Args:
            reference: It.
            place: Where the URI is written.
            name: The property that it is written in.

        Raises:
            OperatorFaults: The module is not in the folder, cannot be imported, or defines it not.
        """
        file = self._modules.file(reference.module)
        if file is None:
            wanted = self.path.joinpath(*reference.module.split("."))
            raise OperatorFaults(
                [Fault(place, f"{name}: there is no {wanted}.py", "add it, or mend the name")]
            )
        module = self._import(self._modules.load_dotted, reference.module)
        function: Handler | None = getattr(module, reference.name, None)
        if not callable(function):
            raise OperatorFaults(
                [
                    Fault(
                        f"{self._as_written(str(file))}:1",
                        f"there is no function {reference.name}",
                        f"define {reference.name}(event, context), which {place} names",
                    )
                ]
            )
        return function

    @contextmanager
    def changes(self) -> Iterator[list[str]]:
        """Forget what has changed, and what imports it; keep it after all if the block raises.

        Yields:
            The modules' names, for `load_again`.
        """
        before = self._modules.state()
        changed = self._modules.changed()
        self._modules.forget(changed)
        try:
            yield sorted(changed)
        except BaseException:
            self._modules.restore(before)
            raise

    def load_again(self, names: Iterable[str]) -> list[Fault]:
        """Import what is forgotten and imported late, and return its faults."""
        faults: list[Fault] = []
        for name in names:
            with collecting(faults):
                self._import(self._modules.load_again, name)
        return faults

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
