"""The command as a user meets it before anything is served: help, version, faults."""

from __future__ import annotations

import itertools
import os
import re
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

import wsgateway
from tests.e2e.process import COMMAND, bare_environ
from wsgateway.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

HANDLER = "def handler(event, context): return {'statusCode': 200}\n"


def run(
    cwd: Path, *arguments: str, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=bare_environ(cwd) | {"COLUMNS": "80"} | dict(environ or {}),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def faults(cwd: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """Return what `serve` says when it does not."""
    finished = run(cwd, "serve", *arguments, environ=environ)
    assert finished.returncode == 2, finished
    assert finished.stdout == ""
    return finished.stderr.splitlines()


def test_version(tmp_path: Path) -> None:
    finished = run(tmp_path, "--version")

    assert (finished.returncode, finished.stdout) == (0, f"{wsgateway.__version__}\n")


@pytest.mark.parametrize("arguments", [("--help",), ("serve", "--help")])
def test_help_fits_80_columns_and_is_not_torn(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    finished = run(tmp_path, *arguments)

    lines = finished.stdout.splitlines()
    assert finished.returncode == 0
    assert max(map(len, lines)) <= 80
    # A line that ends early is followed by an empty one, a list or a frame.
    torn = [
        (line, after)
        for line, after in itertools.pairwise(lines)
        if re.match(r" \w", line)
        and re.match(r" [a-z]+ ", after)
        and len(line.rstrip()) + len(after.split()[0]) < 75
    ]
    assert torn == []


def test_help_names_every_setting(tmp_path: Path) -> None:
    text = run(tmp_path, "serve", "--help").stdout

    for name in Settings.model_fields:
        flag = f"--{name.replace('_', '-')}"
        assert flag in text or f"\n {name} " in text or name == "path"


def test_an_unknown_flag(tmp_path: Path) -> None:
    finished = run(tmp_path, "serve", "--prot", "80")

    assert finished.returncode == 2
    assert "--port" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_everything_that_is_wrong_is_told_in_one_run(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    for name, text in {
        "app/api.yaml": "naem: chat\nstages:\n  dev: {stageVars: {}}\n",
        "app/connect.py": "import _table\n",
        "app/default.py": "from _table import TABLE\n" + HANDLER,
        "app/join.py": "def handler(event, context:\n  pass\n",
        "app/leave.py": "def handle(event, context): pass\n",
        "app/_table.py": "import os\n\nTABLE = os.environ['TABLE']\n",
        "gateway.toml": "# Mine.\nidle_timeout = 5\nregion = 1\n",
    }.items():
        (tmp_path / name).write_text(text)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = faults(
            tmp_path,
            *("app", "--port", str(port), "--management-port", "x", "--settings", "gateway.toml"),
            environ={"WSGATEWAY_LOG_LEVEL": "loud", "WSGATEWAY_TLS_KEY": "key.pem"},
        )
        told_about_port = faults(
            tmp_path, "app", "--port", str(port), environ={"WSGATEWAY_LOG_LEVEL": "loud"}
        )

    assert told == [
        "gateway.toml:2: there is no setting 'idle_timeout'; did you mean idle_timeout_s?",
        'gateway.toml:3: region must be a valid string; put it in quotes: "1"',
        "WSGATEWAY_LOG_LEVEL: must be 'debug', 'info', 'warning' or 'error'; got 'loud'",
        "--management-port: must be a valid integer; got 'x'",
        "WSGATEWAY_TLS_KEY: there is no tls_certificate; set tls_certificate as well",
        "app/api.yaml:1: naem is not known here; did you mean name?",
        "app/api.yaml:3: stages.dev.stageVars is not known here; did you mean stageVariables?",
        "app/_table.py:3: cannot be imported: KeyError: 'TABLE'; mend what is raised there",
        "app/join.py:1: cannot be compiled: '(' was never closed; mend the syntax",
        (
            "app/leave.py:1: there is no handler; define handler(event, context), "
            "or call the file _leave.py if it is a helper"
        ),
    ]
    # Not while another port could not be read: it might have been meant to be this one.
    assert told_about_port[1] == (
        f"--port: cannot listen on 127.0.0.1:{port}: Address already in use; "
        "stop what uses it, or choose another"
    )
    assert told_about_port[2:] == told[5:]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert faults(tmp_path, "--port", "0") == [
        "routes: there is no such folder; name a folder of handlers"
    ]


def test_settings_that_cannot_be_read_hide_nothing_that_is_known(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()

    assert faults(tmp_path, "app", "--settings", "nowhere.toml") == [
        "nowhere.toml: cannot be read: No such file or directory; check the path",
        "app: there is no handler; add a file such as default.py",
    ]


@pytest.mark.parametrize(
    "variable", ["WSGATEWAY_HOST", "WSGATEWAY_MANAGEMENT_HOST"], ids=["host", "management host"]
)
def test_callbacks_are_not_served_to_everybody(tmp_path: Path, variable: str) -> None:
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes" / "default.py").write_text(HANDLER)

    [fault] = faults(
        tmp_path, "--port", "0", "--management-port", "0", environ={variable: "0.0.0.0"}
    )

    assert fault.startswith(f"{variable}: on 0.0.0.0 anyone who reaches the port could post")
    assert fault.endswith("docs/operating.md tells what each means")


def test_a_handler_that_exits_or_ends_threads_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes" / "default.py").write_text("import os, sys\nsys.exit(0)\n")

    assert faults(tmp_path, "--port", "0") == [
        "routes/default.py:2: cannot be imported: SystemExit: 0; mend what is raised there"
    ]


def test_the_installed_script_is_the_same_command(tmp_path: Path) -> None:
    script = os.path.join(os.path.dirname(COMMAND[0]), "wsgateway")  # noqa: PTH118, PTH120
    if not os.path.exists(script):  # noqa: PTH110
        pytest.skip("the package is not installed here")

    finished = subprocess.run(
        [script, "--version"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert (finished.returncode, finished.stdout) == (0, f"{wsgateway.__version__}\n")
