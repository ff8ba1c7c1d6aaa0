"""Importing a folder of handlers as Lambda would, again and again, beside other folders.

On Lambda the folder is on `sys.path`, so `import _table` finds `_table.py` beside the handler. Here
several folders may be served by one process and each may change while it runs, so their modules
live under names of their own, and an `import` in one of them looks into its own folder first.
The standard library's names win, as they do on Lambda once the runtime has started: a route called
`select` or `queue` hides nothing from anyone.
"""

from __future__ import annotations

import builtins
import importlib.util
import itertools
import sys
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_numbers = itertools.count(1)

# Stands for the dots of a file's name, which would make packages of its parts.
_DOT = "\N{ONE DOT LEADER}"


@dataclass(frozen=True, slots=True)
class State:
    """What was imported at some instant.

    Attributes:
        modules: By their name in the folder.
        sources: What their files held then; None for a package without a file.
    """

    modules: Mapping[str, ModuleType]
    sources: Mapping[str, bytes | None]


class HandlerModules:
    """The modules of one folder.

    Attributes:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._package = f"wsgateway_app_{next(_numbers)}"
        # Whole sources, not time stamps: an edit may keep both size and time.
        self._sources: dict[str, bytes | None] = {}
        self._importers: dict[str, set[str]] = {}
        package = ModuleType(self._package)
        package.__path__ = [str(self.folder)]
        sys.modules[self._package] = package
        self._finder = _Finder(self)
        sys.meta_path.insert(0, self._finder)

    def close(self) -> None:
        """Forget the modules; functions taken from them keep working."""
        sys.meta_path.remove(self._finder)
        for name in [*self._loaded(), ""]:
            del sys.modules[self._full_name(name)]

    def load(self, name: str) -> ModuleType:
        """Import the module of one file, or return it if it is imported already.

        Args:
            name: The file's, without `.py`.

        Raises:
            BaseException: Whatever the module raises.
        """
        return importlib.import_module(self._full_name(name.replace(".", _DOT)))

    def load_dotted(self, name: str) -> ModuleType:
        """Import a module by its name in an `import` statement, or return it.

        Raises:
            BaseException: Whatever the module raises.
        """
        return importlib.import_module(self._full_name(name))

    def file(self, name: str) -> Path | None:
        """Return the file of a module by its name in an `import` statement; None without one."""
        path = self._path(name)
        return path if path.is_file() else None

    def load_again(self, name: str) -> None:
        """Import a module that was forgotten, unless its file is gone.

        Args:
            name: As `changed` returns it.

        Raises:
            BaseException: Whatever the module raises.
        """
        full_name = self._full_name(name)
        if self.find_spec(full_name) is not None:
            importlib.import_module(full_name)

    def changed(self) -> set[str]:
        """Return the imported modules whose file is not what was imported, and their importers."""
        loaded = self._loaded()
        stale = {
            name
            for name, source in list(self._sources.items())
            if name in loaded and _read(self._path(name)) != source
        }
        queue = list(stale)
        while queue:
            # A copy: a handler in a thread may be importing.
            for importer in list(self._importers.get(queue.pop(), ())):
                if importer in loaded and importer not in stale:
                    stale.add(importer)
                    queue.append(importer)
        return stale

    def forget(self, names: Iterable[str]) -> None:
        """Make the next import of these modules run them again."""
        for name in names:
            del sys.modules[self._full_name(name)]

    def state(self) -> State:
        """Return what `restore` takes to undo what is forgotten and imported from now on."""
        return State(self._loaded(), dict(self._sources))

    def restore(self, state: State) -> None:
        """Go back; modules whose files have changed since then count as changed again."""
        self.forget(self._loaded())
        for name, module in state.modules.items():
            sys.modules[self._full_name(name)] = module
        for name, module in state.modules.items():
            package, _, child = self._full_name(name).rpartition(".")
            setattr(sys.modules[package], child, module)
        self._sources = dict(state.sources)

    def has(self, name: str) -> bool:
        """Whether an import of this name in the folder means a module of the folder."""
        if name in sys.stdlib_module_names:
            return False
        path = self.folder / name
        if path.with_name(f"{name}.py").is_file() or (path / "__init__.py").is_file():
            return True
        if not path.is_dir():
            return False
        # As on Python's own path, a directory is a package only if nothing better is found.
        elsewhere = PathFinder.find_spec(name)
        return elsewhere is None or elsewhere.loader is None

    def find_spec(self, full_name: str) -> ModuleSpec | None:
        """Return the spec of a module of this folder."""
        name = self._own_name(full_name)
        if not name:
            return None
        path = self._path(name)
        if not path.is_file():
            directory = path.with_suffix("")
            if not directory.is_dir():
                return None
            self._sources[name] = None
            spec = ModuleSpec(full_name, None, is_package=True)
            spec.submodule_search_locations = [str(directory)]
            return spec
        is_package = path.name == "__init__.py"
        return importlib.util.spec_from_file_location(
            full_name,
            path,
            loader=_Loader(full_name, str(path), self),
            submodule_search_locations=[str(path.parent)] if is_package else None,
        )

    def compiling(self, full_name: str, source: bytes) -> None:
        """Remember what a module is made of."""
        self._sources[self._own_name(full_name)] = source

    def executing(self, module: ModuleType) -> None:
        """Prepare a module that is about to run."""
        # A package that runs again keeps the modules in it that did not change.
        prefix = f"{self._own_name(module.__name__)}."
        for name, child in self._loaded().items():
            if name.startswith(prefix) and "." not in name[len(prefix) :]:
                setattr(module, name[len(prefix) :], child)
        # Functions take over the builtins of their module, so imports inside them work as well.
        module.__dict__["__builtins__"] = {**builtins.__dict__, "__import__": self._import}

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002 - the signature of __import__
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        absolute = level == 0
        top = name.partition(".")[0]
        if absolute and not self.has(top):
            return builtins.__import__(name, globals, locals, fromlist or (), 0)
        importer = globals or {}
        if absolute:
            name = self._full_name(name)
            target = name
        else:
            target = importlib.util.resolve_name("." * level + name, importer.get("__package__"))
        self._note(importer.get("__name__", ""), target, fromlist or ())
        module = builtins.__import__(name, globals, locals, fromlist or (), level)
        # Without a list, an import statement binds the first name of its path.
        return sys.modules[self._full_name(top)] if absolute and not fromlist else module

    def _note(self, importer: str, target: str, fromlist: Sequence[str]) -> None:
        """Note what an import depends on, and import of it what was forgotten.

        Python would not: it looks neither at the packages around an imported module, nor for a
        module that its package still has as an attribute.
        """
        parts = self._own_name(target).split(".")
        around = [".".join(parts[:size]) for size in range(1, len(parts) + 1)]
        inside = [f"{around[-1]}.{item}".lstrip(".") for item in fromlist]
        for name in (*around, *inside):
            self._importers.setdefault(name, set()).add(self._own_name(importer))
            if (
                name in self._sources
                and self._full_name(name) not in sys.modules
                and self.find_spec(self._full_name(name)) is not None
            ):
                importlib.import_module(self._full_name(name))

    def _path(self, name: str) -> Path:
        path = self.folder.joinpath(*(part.replace(_DOT, ".") for part in name.split(".")))
        package = path / "__init__.py"
        return package if package.is_file() else path.with_name(f"{path.name}.py")

    def _full_name(self, name: str) -> str:
        return f"{self._package}.{name}" if name else self._package

    def _own_name(self, full_name: str) -> str:
        prefix = f"{self._package}."
        return full_name[len(prefix) :] if full_name.startswith(prefix) else ""

    def _loaded(self) -> dict[str, ModuleType]:
        modules = list(sys.modules.items())
        return {own: module for name, module in modules if (own := self._own_name(name))}


class _Finder(MetaPathFinder):
    def __init__(self, modules: HandlerModules) -> None:
        self._modules = modules

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the finder's signature
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        return self._modules.find_spec(fullname)


class _Loader(SourceFileLoader):
    """Compiles from source: a cached file is taken for fresh when size and second are equal."""

    def __init__(self, fullname: str, path: str, modules: HandlerModules) -> None:
        super().__init__(fullname, path)
        self._modules = modules

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        source = self.get_data(path)
        self._modules.compiling(fullname, source)
        try:
            return self.source_to_code(source, path)
        except SyntaxError as error:
            # Python tells no name where it does not come to parsing.
            error.filename = error.filename or path
            raise

    def exec_module(self, module: ModuleType) -> None:
        self._modules.executing(module)
        super().exec_module(module)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
