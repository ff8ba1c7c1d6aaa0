"""What handlers can import, and what a second import of a changed file takes with it."""

from __future__ import annotations

import queue
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.loaders.files import write, write_unnoticed
from wsgateway.loaders.modules import HandlerModules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    MakeModules = Callable[[dict[str, str]], HandlerModules]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeModules]:
    """Write files into a new folder and return its modules."""
    made: list[HandlerModules] = []

    def make_modules(files: dict[str, str]) -> HandlerModules:
        folder = tmp_path / f"folder{len(made)}"
        folder.mkdir()
        write(folder, files)
        made.append(HandlerModules(folder))
        return made[-1]

    yield make_modules
    for modules in made:
        modules.close()


def swap(modules: HandlerModules) -> None:
    modules.forget(modules.changed())


@pytest.mark.parametrize(
    "source",
    [
        "import _table\nvalue = _table.NAME",
        "import _table as t\nvalue = t.NAME",
        "from _table import NAME as value",
        "from _table import *\nvalue = NAME",
        "from . import _table\nvalue = _table.NAME",
        "from ._table import NAME as value",
        "value = __import__('_table').NAME",
        "exec('import _table')\nvalue = _table.NAME",
    ],
)
def test_a_helper_beside_the_handler_is_imported(make: MakeModules, source: str) -> None:
    modules = make({"_table.py": "NAME = 'conns'\n__all__ = ['NAME']", "join.py": source})

    assert modules.load("join").value == "conns"


@pytest.mark.parametrize(
    "source",
    [
        "import lib.sub\nvalue = lib.sub.NAME",
        "import lib.sub as s\nvalue = s.NAME",
        "from lib import sub\nvalue = sub.NAME",
        "from lib.sub import NAME as value",
        "from lib import VALUE as value",
        "import lib\nvalue = lib.VALUE",
        "from .lib.sub import NAME as value",
    ],
)
def test_a_package_beside_the_handler_is_imported(make: MakeModules, source: str) -> None:
    modules = make(
        {
            "lib/__init__.py": "from .sub import NAME as VALUE",
            "lib/sub.py": "from lib._names import NAME",
            "lib/_names.py": "from . import _more\nNAME = _more.NAME",
            "lib/_more.py": "NAME = 'conns'",
            "join.py": source,
        }
    )

    assert modules.load("join").value == "conns"


def test_a_folder_without_init_is_a_package(make: MakeModules) -> None:
    modules = make({"lib/sub.py": "NAME = 'conns'", "join.py": "import lib.sub\nv = lib.sub.NAME"})

    assert modules.load("join").v == "conns"


def test_a_folder_without_init_hides_no_installed_package(make: MakeModules) -> None:
    """As on Python's own path: `static/boto3/` beside the handlers is no reason to lose boto3."""
    modules = make({"yaml/readme.txt": "", "join.py": "import yaml\nv = yaml.safe_load('1')"})

    assert modules.load("join").v == 1


def test_imports_inside_functions_work_later_and_in_threads(make: MakeModules) -> None:
    modules = make(
        {
            "_table.py": "NAME = 'conns'",
            "join.py": "def f():\n  import _table\n  return _table.NAME",
        }
    )
    function = modules.load("join").f
    results: queue.Queue[str] = queue.Queue()

    threading.Thread(target=lambda: results.put(function())).start()

    assert results.get(timeout=5) == "conns"
    assert function() == "conns"


def test_handlers_may_import_each_other_in_a_circle(make: MakeModules) -> None:
    modules = make(
        {
            "a.py": "import b\ndef f(): return b.g()",
            "b.py": "import a\ndef g(): return a.VALUE, 1",
            "c.py": "import a\na.VALUE = 2\nv = a.f()",
        }
    )

    assert modules.load("c").v == (2, 1)
    assert modules.load("a").b is modules.load("b")


@pytest.mark.parametrize("name", ["queue", "select", "json", "types"])
def test_names_of_the_standard_library_are_not_shadowed(make: MakeModules, name: str) -> None:
    modules = make({f"{name}.py": "mine = True", "join.py": f"import {name} as v"})

    assert modules.load("join").v is sys.modules[name]
    assert modules.load(name).mine is True


def test_installed_packages_are_imported_as_always(make: MakeModules) -> None:
    modules = make({"join.py": "import yaml\nfrom os import path\nimport xml.dom"})

    join = modules.load("join")

    assert join.yaml is sys.modules["yaml"]
    assert join.path is sys.modules["os.path"]
    assert join.xml is sys.modules["xml"]


def test_two_folders_do_not_disturb_each_other(make: MakeModules) -> None:
    files = {"_table.py": "SEEN = []", "join.py": "from _table import SEEN"}
    one, other = make(files), make(files)

    one.load("join").SEEN.append("one")

    assert other.load("join").SEEN == []
    assert "_table" not in sys.modules
    assert "join" not in sys.modules


def test_what_is_outside_the_folder_does_not_see_its_modules(make: MakeModules) -> None:
    make({"_table.py": ""}).load("_table")

    with pytest.raises(ModuleNotFoundError):
        __import__("_table")


def test_a_missing_module_is_called_by_its_own_name(make: MakeModules) -> None:
    modules = make({"join.py": "import _nothing"})

    with pytest.raises(ModuleNotFoundError, match="No module named '_nothing'"):
        modules.load("join")


@pytest.mark.parametrize("name", ["send-message", "v1.join", "a b", "é", "class", "1"])
def test_a_file_may_have_a_name_that_is_no_identifier(make: MakeModules, name: str) -> None:
    modules = make({f"{name}.py": "value = __file__"})

    assert modules.load(name).value == str(modules.folder / f"{name}.py")


def test_annotations_that_are_strings_are_resolved(make: MakeModules) -> None:
    """dataclasses, typing and pydantic look a class's module up by its name."""
    modules = make(
        {
            "_kinds.py": "class Kind(str): pass",
            "join.py": """\
                from __future__ import annotations
                import dataclasses, typing
                from pydantic import BaseModel
                from _kinds import Kind

                @dataclasses.dataclass
                class Member:
                    cls: typing.ClassVar[int] = 1
                    kind: Kind = Kind("x")

                class Room(BaseModel):
                    members: list[Name]

                Name = typing.Annotated[str, 1]

                def make(members):
                    return Room(members=members).members

                hints = typing.get_type_hints(Member)
                fields = [field.name for field in dataclasses.fields(Member)]
            """,
        }
    )

    join = modules.load("join")

    assert join.hints["kind"] is join.Kind
    assert join.fields == ["kind"]
    assert join.make(["Ada"]) == ["Ada"]


def test_nothing_is_left_when_closed(tmp_path: Path) -> None:
    write(tmp_path, {"lib/sub.py": "", "join.py": "import lib.sub\ndef f(): return lib.sub"})
    modules = HandlerModules(tmp_path)
    function = modules.load("join").f
    before = set(sys.modules)
    finders = list(sys.meta_path)

    modules.close()

    gone = before - set(sys.modules)
    assert {name.partition(".")[2] for name in gone} == {"", "join", "lib", "lib.sub"}
    assert len(sys.meta_path) == len(finders) - 1
    assert function().__name__.endswith("lib.sub")


def test_an_unchanged_folder_has_no_changed_modules(make: MakeModules) -> None:
    modules = make({"_table.py": "", "join.py": "import _table, json, yaml"})
    modules.load("join")

    assert modules.changed() == set()


def test_a_changed_helper_takes_its_importers_along(make: MakeModules) -> None:
    modules = make(
        {
            "_table.py": "NAME = 'a'",
            "_rooms.py": "from _table import NAME",
            "_other.py": "",
            "join.py": "from _rooms import NAME\nimport _other",
            "leave.py": "import _other",
        }
    )
    other, leave = modules.load("leave")._other, modules.load("leave")
    modules.load("join")

    write(modules.folder, {"_table.py": "NAME = 'b'"})

    assert modules.changed() == {"_table", "_rooms", "join"}
    swap(modules)
    assert modules.load("join").NAME == "b"
    assert modules.load("leave") is leave
    assert modules.load("join")._other is other


@pytest.mark.parametrize(
    "source",
    [
        "from . import _table\ndef f(): return _table.NAME",
        "from ._table import NAME\ndef f(): return NAME",
        "from _table import *\ndef f(): return NAME",
        "import _table\ndef f(): return _table.NAME",
        "def f():\n  import _table\n  return _table.NAME",
        "def f():\n  from . import _table\n  return _table.NAME",
    ],
)
def test_a_changed_helper_is_seen_however_it_is_imported(make: MakeModules, source: str) -> None:
    modules = make({"_table.py": "NAME = 'a'", "join.py": source})
    assert modules.load("join").f() == "a"

    write(modules.folder, {"_table.py": "NAME = 'b'"})
    swap(modules)

    assert modules.load("join").f() == "b"


@pytest.mark.parametrize(
    "source",
    [
        "from lib import sub\ndef f(): return sub.NAME",
        "from lib.sub import NAME\ndef f(): return NAME",
        "import lib.sub\ndef f(): return lib.sub.NAME",
        "import lib.sub as s\ndef f(): return s.NAME",
        "from .lib import sub\ndef f(): return sub.NAME",
        "def f():\n  from lib import sub\n  return sub.NAME",
    ],
)
@pytest.mark.parametrize("init", ["", "from . import sub", "import lib.sub", None])
def test_a_changed_module_of_a_package_is_seen(
    make: MakeModules, source: str, init: str | None
) -> None:
    files = {"lib/sub.py": "NAME = 'a'", "join.py": source}
    modules = make(files if init is None else {**files, "lib/__init__.py": init})
    assert modules.load("join").f() == "a"

    write(modules.folder, {"lib/sub.py": "NAME = 'b'"})
    swap(modules)

    assert modules.load("join").f() == "b"


def test_a_changed_package_keeps_its_unchanged_modules(make: MakeModules) -> None:
    modules = make(
        {
            "lib/__init__.py": "V = 1",
            "lib/sub.py": "SEEN = []",
            "join.py": "import lib.sub\ndef f(): return lib.V, lib.sub.SEEN",
        }
    )
    modules.load("join").f()[1].append("here")

    write(modules.folder, {"lib/__init__.py": "V = 2"})
    swap(modules)

    assert modules.load("join").f() == (2, ["here"])


def test_modules_of_a_package_that_do_not_import_a_changed_one_are_kept(make: MakeModules) -> None:
    modules = make(
        {
            "lib/__init__.py": "",
            "lib/state.py": "from . import names",
            "lib/names.py": "",
            "lib/rooms.py": "V = 1",
            "join.py": "from lib import state, rooms",
        }
    )
    modules.load("join")

    write(modules.folder, {"lib/rooms.py": "V = 2"})

    assert modules.changed() == {"lib.rooms", "join"}


def test_an_edit_of_the_same_size_in_the_same_instant_is_seen(make: MakeModules) -> None:
    modules = make({"join.py": "NAME = 'a'"})
    modules.load("join")

    write_unnoticed(modules.folder / "join.py", "NAME = 'b'")

    assert modules.changed() == {"join"}
    swap(modules)
    assert modules.load("join").NAME == "b"


def test_a_file_that_is_only_touched_has_not_changed(make: MakeModules) -> None:
    modules = make({"join.py": "NAME = 'a'"})
    modules.load("join")

    (modules.folder / "join.py").touch()

    assert modules.changed() == set()


def test_a_deleted_file_has_changed(make: MakeModules) -> None:
    modules = make({"_table.py": "", "join.py": "import _table", "leave.py": ""})
    modules.load("join")
    modules.load("leave")

    (modules.folder / "_table.py").unlink()

    assert modules.changed() == {"_table", "join"}
    swap(modules)
    with pytest.raises(ModuleNotFoundError):
        modules.load("join")


def test_a_helper_that_becomes_a_package_has_changed(make: MakeModules) -> None:
    modules = make({"_table.py": "NAME = 'a'", "join.py": "from _table import NAME"})
    modules.load("join")

    (modules.folder / "_table.py").unlink()
    write(modules.folder, {"_table/__init__.py": "NAME = 'b'"})
    swap(modules)

    assert modules.load("join").NAME == "b"


def test_modules_in_a_circle_change_together(make: MakeModules) -> None:
    modules = make({"a.py": "import b", "b.py": "import a\nV = 1"})
    modules.load("a")

    write(modules.folder, {"b.py": "import a\nV = 2"})

    assert modules.changed() == {"a", "b"}
    swap(modules)
    assert modules.load("a").b.V == 2
    assert modules.load("b").a is modules.load("a")


def test_functions_of_a_forgotten_module_keep_what_they_have(make: MakeModules) -> None:
    """A call in flight finishes on the old code."""
    modules = make({"_table.py": "NAME = 'a'", "join.py": "import _table\nf = lambda: _table.NAME"})
    old = modules.load("join").f

    write(modules.folder, {"_table.py": "NAME = 'b'"})
    swap(modules)

    assert modules.load("join").f() == "b"
    assert old() == "a"


def test_restoring_brings_everything_back(make: MakeModules) -> None:
    modules = make(
        {
            "_table.py": "V = 1",
            "lib/__init__.py": "",
            "lib/sub.py": "V = 1",
            "join.py": "from lib import sub\nfrom . import _table",
        }
    )
    join, table = modules.load("join"), modules.load("_table")
    sub = join.sub
    write(modules.folder, {"_table.py": "V = 2", "lib/sub.py": "V = 2", "new.py": "import _table"})

    state = modules.state()
    swap(modules)
    assert modules.load("join")._table.V == 2
    modules.load("new")
    modules.restore(state)

    assert modules.load("join") is join
    assert modules.load("_table") is table
    assert modules.load("lib").sub is sub
    assert sys.modules[sub.__name__] is sub
    assert sys.modules[str(join.__package__)]._table is table
    assert modules.changed() == {"_table", "lib.sub", "join"}


def test_a_module_restored_and_mended_is_unchanged(make: MakeModules) -> None:
    modules = make({"join.py": "V = 1"})
    join = modules.load("join")
    write(modules.folder, {"join.py": "V = ("})
    state = modules.state()
    swap(modules)
    with pytest.raises(SyntaxError):
        modules.load("join")
    modules.restore(state)

    write(modules.folder, {"join.py": "V = 1"})

    assert modules.changed() == set()
    assert modules.load("join") is join
