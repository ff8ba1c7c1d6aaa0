"""Folders of handlers: which file is which route, what is refused, and what a reload changes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.loaders.files import HANDLER, write, write_unnoticed
from wsgateway.errors import OperatorFaults
from wsgateway.loaders.folder import HandlerFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Open = Callable[[dict[str, str]], HandlerFolder]


@pytest.fixture
def open_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Write files into `chat/` of the current directory, and open it by that name."""
    monkeypatch.chdir(tmp_path)
    opened: list[HandlerFolder] = []

    def make(files: dict[str, str]) -> HandlerFolder:
        folder = tmp_path / "chat"
        folder.mkdir()
        write(folder, files)
        opened.append(HandlerFolder(folder.relative_to(tmp_path)))
        return opened[-1]

    yield make
    for folder in opened:
        folder.close()


def faults(act: Callable[[], object]) -> list[str]:
    with pytest.raises(OperatorFaults) as caught:
        act()
    return [str(fault) for fault in caught.value.faults]


def body(text: str) -> str:
    return f"def handler(event, context): return {{'statusCode': 200, 'body': {text}}}\n"


# What is a route


def test_each_file_is_a_route(open_folder: Open) -> None:
    api = open_folder(
        {
            "connect.py": HANDLER,
            "disconnect.py": HANDLER,
            "default.py": HANDLER,
            "send-message.py": HANDLER,
            "v1.join.py": HANDLER,
            "_helper.py": "",
            "__init__.py": "",
            "readme.md": "",
            "lib/sub.py": "",
        }
    ).load()

    assert api.function_names == {
        "$connect": "connect",
        "$disconnect": "disconnect",
        "$default": "default",
        "send-message": "send-message",
        "v1.join": "v1.join",
    }
    assert api.handlers.keys() == api.definition.routes.keys() == api.function_names.keys()


def test_what_editors_leave_is_no_route(open_folder: Open, tmp_path: Path) -> None:
    """Emacs' locks are links to nowhere, macOS writes `._` files on foreign disks."""
    folder = open_folder({"join.py": HANDLER, "._join.py": "\0", "join.py~": "("})
    (tmp_path / "chat" / ".#join.py").symlink_to("ada@host.1234")
    (tmp_path / "chat" / "folder.py").mkdir()

    assert list(folder.load().handlers) == ["join"]


def test_the_definition_says_what_files_cannot(open_folder: Open) -> None:
    api = open_folder(
        {
            "echo.py": HANDLER,
            "join.py": HANDLER,
            "api.yaml": """\
                name: chat
                routes:
                  echo: {routeResponseSelectionExpression: $default}
                stages:
                  dev: {stageVariables: {table: conns}}
            """,
        }
    ).load()

    assert api.definition.name == "chat"
    assert {key: route.two_way for key, route in api.definition.routes.items()} == {
        "echo": True,
        "join": False,
    }
    assert api.definition.stages["dev"].stage_variables == {"table": "conns"}


def test_a_handler_may_be_anything_that_can_be_called(open_folder: Open) -> None:
    api = open_folder(
        {
            "a.py": "from _h import handler",
            "_h.py": HANDLER,
            "b.py": "class H:\n  def __call__(self, e, c): return 1\nhandler = H()",
            "c.py": "async def handler(e, c): return 1",
        }
    ).load()

    assert sorted(api.handlers) == ["a", "b", "c"]


# What is refused


def test_no_folder() -> None:
    assert faults(lambda: HandlerFolder(Path("nowhere"))) == [
        "nowhere: there is no such folder; name a folder of handlers"
    ]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "join.py").write_text(HANDLER)

    assert faults(lambda: HandlerFolder(tmp_path / "join.py")) == [
        f"{tmp_path}/join.py: there is no such folder; name a folder of handlers"
    ]


@pytest.mark.parametrize("files", [{}, {"_helper.py": ""}, {"readme.md": ""}])
def test_a_folder_without_handlers(open_folder: Open, files: dict[str, str]) -> None:
    assert faults(open_folder(files).load) == [
        "chat: there is no handler; add a file such as default.py"
    ]


@pytest.mark.parametrize("source", ["", "handler = 5", "def Handler(e, c): pass"])
def test_a_file_without_a_handler(open_folder: Open, source: str) -> None:
    assert faults(open_folder({"join.py": source}).load) == [
        (
            "chat/join.py:1: there is no handler; define handler(event, context), "
            "or call the file _join.py if it is a helper"
        )
    ]


@pytest.mark.parametrize(
    ("source", "line", "problem"),
    [
        ("import os\n1 / 0", 2, "ZeroDivisionError: division by zero"),
        ("import sys\n\nsys.exit('no')", 3, "SystemExit: no"),
        ("exit()", 1, "SystemExit: None"),
        ("import ast\n\nast.parse('(')", 3, None),
        ("def f():\n  raise KeyError('TABLE')\n\nf()", 2, "KeyError: 'TABLE'"),
        ("import _nothing", 1, "ModuleNotFoundError: No module named '_nothing'"),
        ("class E(BaseException): pass\nraise E", 2, "E"),
        ("raise ValueError('a\\n  b')", 1, "ValueError: a b"),
        ("import json\n\njson.loads('{')", 3, None),
    ],
)
def test_a_file_that_raises(open_folder: Open, source: str, line: int, problem: str | None) -> None:
    [fault] = faults(open_folder({"join.py": source}).load)

    assert fault.startswith(f"chat/join.py:{line}: cannot be imported: {problem or ''}")
    assert fault.endswith("; mend what is raised there")
    assert problem is None or fault.removesuffix("; mend what is raised there").endswith(problem)


def test_ctrl_c_during_an_import_is_no_fault(open_folder: Open) -> None:
    with pytest.raises(KeyboardInterrupt):
        open_folder({"join.py": "raise KeyboardInterrupt"}).load()


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (b"def handler(event, context):\n  return (\n", 2),
        (b"x = 1\n  y = 2\n", 2),
        (b"if True:\n\tx = 1\n        y = 2\n", 3),
        (b"x = 1\ny = 'caf\xe9'\n", 2),
        (b"x = 1\n\n\0", 1),
        (b"# coding: klingon\n", 1),
    ],
)
def test_a_file_that_is_no_python(
    open_folder: Open, tmp_path: Path, source: bytes, line: int
) -> None:
    folder = open_folder({"default.py": HANDLER})
    (tmp_path / "chat" / "join.py").write_bytes(source)

    [fault] = faults(folder.load)

    assert fault.startswith(f"chat/join.py:{line}: cannot be compiled: ")
    assert fault.endswith("; mend the syntax")


def test_a_broken_helper_is_told_once(open_folder: Open) -> None:
    folder = open_folder({"a.py": "import _h", "b.py": "from _h import x", "_h.py": "\nboom"})

    assert faults(folder.load) == [
        (
            "chat/_h.py:2: cannot be imported: NameError: name 'boom' is not defined; "
            "mend what is raised there"
        )
    ]


def test_all_faults_of_all_files_are_told_at_once(open_folder: Open) -> None:
    folder = open_folder(
        {
            "a.py": "1/0",
            "b.py": "(",
            "c.py": "",
            "d.py": HANDLER,
            "api.yaml": "routes:\n  zzz: {}\nnaem: x\n",
        }
    )

    places = [fault.partition(": ")[0] for fault in faults(folder.load)]

    assert places == [
        "chat/a.py:1",
        "chat/b.py:1",
        "chat/c.py:1",
        "chat/api.yaml:2",
        "chat/api.yaml:3",
    ]


def test_a_declared_route_without_a_file(open_folder: Open) -> None:
    folder = open_folder(
        {"a.py": HANDLER, "api.yaml": "\nroutes:\n  a: {}\n  $connect: {}\n  jion: {}\n"}
    )

    assert faults(folder.load) == [
        (
            "chat/api.yaml:4: the route '$connect' has no handler; "
            "add chat/connect.py or a target, or remove the route"
        ),
        (
            "chat/api.yaml:5: the route 'jion' has no handler; "
            "add chat/jion.py or a target, or remove the route"
        ),
    ]


def test_the_handler_of_a_declared_route_is_broken(open_folder: Open) -> None:
    """It is there: only its own fault is told."""
    folder = open_folder({"a.py": "1/0", "api.yaml": "routes: {a: {}}\n"})

    assert [fault.partition(": ")[0] for fault in faults(folder.load)] == ["chat/a.py:1"]


def test_a_file_whose_name_is_no_route_key(open_folder: Open) -> None:
    folder = open_folder({"$foo.py": HANDLER, "$connect.py": HANDLER})

    assert faults(folder.load) == [
        "chat/$connect.py: a file's name cannot begin with $; call it connect.py",
        "chat/$foo.py: a file's name cannot begin with $; only names of events do",
    ]


def test_a_definition_with_the_other_suffix(open_folder: Open) -> None:
    folder = open_folder({"join.py": HANDLER, "api.yml": "name: chat"})

    assert faults(folder.load) == ["chat/api.yml: is not read; call it api.yaml"]


# What a reload changes


def test_a_changed_handler_is_swapped(open_folder: Open, tmp_path: Path) -> None:
    folder = open_folder({"a.py": body("1"), "b.py": body("1")})
    before = folder.load().handlers

    write_unnoticed(tmp_path / "chat" / "a.py", body("2"))
    after = folder.reload().handlers

    assert after["a"]({}, None)["body"] == 2  # type: ignore[arg-type]
    assert before["a"]({}, None)["body"] == 1  # type: ignore[arg-type]
    assert after["b"] is before["b"]


def test_a_changed_helper_is_swapped_and_another_keeps_its_state(
    open_folder: Open, tmp_path: Path
) -> None:
    folder = open_folder(
        {
            "a.py": "import _text, _state\n" + body("(_text.T, _state.S)"),
            "_text.py": "T = 1",
            "_state.py": "S = []",
        }
    )
    folder.load().handlers["a"]({}, None)["body"][1].append("here")  # type: ignore[arg-type]

    write(tmp_path / "chat", {"_text.py": "T = 2"})
    after = folder.reload().handlers

    assert after["a"]({}, None)["body"] == (2, ["here"])  # type: ignore[arg-type]


def test_files_come_and_go(open_folder: Open, tmp_path: Path) -> None:
    folder = open_folder({"a.py": HANDLER})
    folder.load()

    write(tmp_path / "chat", {"b.py": HANDLER})
    assert list(folder.reload().handlers) == ["a", "b"]
    (tmp_path / "chat" / "a.py").unlink()
    assert list(folder.reload().handlers) == ["b"]
    write(tmp_path / "chat", {"a.py": body("2")})
    assert folder.reload().handlers["a"]({}, None)["body"] == 2  # type: ignore[arg-type]


def test_a_changed_definition_is_seen(open_folder: Open, tmp_path: Path) -> None:
    folder = open_folder({"a.py": HANDLER})
    assert folder.load().definition.routes["a"].two_way is False

    write(
        tmp_path / "chat",
        {"api.yaml": "routes: {a: {routeResponseSelectionExpression: $default}}\n"},
    )
    assert folder.reload().definition.routes["a"].two_way is True
    (tmp_path / "chat" / "api.yaml").unlink()
    assert folder.reload().definition.routes["a"].two_way is False


@pytest.mark.parametrize("broken", ["(", "1/0", "", "raise SystemExit"])
def test_a_broken_edit_keeps_everything_old_until_it_is_mended(
    open_folder: Open, tmp_path: Path, broken: str
) -> None:
    folder = open_folder(
        {"a.py": body("1"), "b.py": "import _t\n" + body("_t.T"), "_t.py": "T = []"}
    )
    before = folder.load().handlers
    table = before["b"]({}, None)["body"]  # type: ignore[arg-type]

    write(tmp_path / "chat", {"a.py": broken})
    assert len(faults(folder.reload)) == 1
    assert len(faults(folder.reload)) == 1
    write(tmp_path / "chat", {"a.py": body("2")})
    after = folder.reload().handlers

    assert after["a"]({}, None)["body"] == 2  # type: ignore[arg-type]
    assert after["b"]({}, None)["body"] is table  # type: ignore[arg-type]


def test_a_broken_helper_keeps_its_importers_old_until_it_is_mended(
    open_folder: Open, tmp_path: Path
) -> None:
    folder = open_folder({"a.py": "from _t import T\n" + body("T"), "_t.py": "T = 1"})
    folder.load()

    write(tmp_path / "chat", {"_t.py": "1/0"})
    assert len(faults(folder.reload)) == 1
    write(tmp_path / "chat", {"_t.py": "T = 3"})

    assert folder.reload().handlers["a"]({}, None)["body"] == 3  # type: ignore[arg-type]


def test_a_helper_that_is_imported_late_is_checked_at_the_reload(
    open_folder: Open, tmp_path: Path
) -> None:
    """Its fault is told when it is made, not when the next message comes."""
    folder = open_folder(
        {"a.py": "def handler(e, c):\n  import _t\n  return _t.T", "_t.py": "T = 1"}
    )
    handler = folder.load().handlers["a"]
    assert handler({}, None) == 1  # type: ignore[arg-type]

    write(tmp_path / "chat", {"_t.py": "1/0"})

    assert [fault.partition(": ")[0] for fault in faults(folder.reload)] == ["chat/_t.py:1"]
    assert handler({}, None) == 1  # type: ignore[arg-type]


def test_a_deleted_helper_is_missed_only_by_who_imports_it(
    open_folder: Open, tmp_path: Path
) -> None:
    folder = open_folder({"a.py": "import _t\n" + body("_t.T"), "_t.py": "T = 1", "b.py": HANDLER})
    folder.load()

    (tmp_path / "chat" / "_t.py").unlink()
    assert [fault.partition(": ")[0] for fault in faults(folder.reload)] == ["chat/a.py:1"]
    write(tmp_path / "chat", {"a.py": HANDLER})

    assert sorted(folder.reload().handlers) == ["a", "b"]
